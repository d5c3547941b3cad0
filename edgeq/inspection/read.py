"""From a path to `Contents`: a model file of either format, or the folder a build left."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import ArtifactError
from edgeq.inspection.contents import Contents

__all__ = ["find_model", "inspect"]

LARGEST = 2 << 30
"""Bytes: both formats end here."""


def find_model(path: Path) -> Path:
    """`path` itself, or the model in a folder that a build left. Raises `ArtifactError` where there is none."""
    if path.is_dir():
        for name in ("model.tflite", "model.onnx"):
            if (path / name).is_file():
                return path / name
        raise ArtifactError(
            f"no model in {path}", why="neither model.tflite nor model.onnx is there",
            hint="give a build's folder, a .tflite or a .onnx",
        )  # fmt: skip
    if not path.is_file():
        raise ArtifactError(f"no such file: {path}")
    return path


def inspect(path: Path, *, run: bool = True) -> Contents:
    """What is inside the model at `path`, told apart by content and not by name.

    `run` also lets onnxruntime load an ONNX file and counts what it made of it. Raises `ArtifactError` for anything
    that is no model.
    """
    file = find_model(path)
    if file.stat().st_size > LARGEST:
        raise ArtifactError(f"{file} is no model", why="it is larger than either format can be")
    data = file.read_bytes()
    if data[4:8] == b"TFL3":
        from edgeq.inspection.tflite import read_tflite

        return read_tflite(data)
    try:
        from edgeq.inspection.onnxfile import read_onnx

        return read_onnx(data, run=run)
    except ArtifactError as error:
        if file.suffix == ".onnx":
            raise
        raise ArtifactError(f"{file} is neither a TFLite nor an ONNX model", why=error.what) from error
