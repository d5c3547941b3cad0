"""Read a model file of any format, or the folder of a build, into `Contents`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ArtifactError
from edgeq.formats.contents import Contents
from edgeq.isolation import read_untrusted, run_isolated
from edgeq.limits import check_regular, read_bytes

__all__ = ["Entry", "find_model", "inspect", "read_entry"]


@dataclass(frozen=True)
class Entry:
    """A model's first input: its type, and what its integers mean. `scale` is 0 where the file does not say.

    A float input has scale 1 and zero point 0. `signed` says whether the activations of an ONNX file are int8.
    """

    type: str
    scale: float
    zero_point: int
    signed: bool = False


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
    if not path.exists():
        raise ArtifactError(f"no such file: {path}")
    check_regular(path)
    return path


def inspect(path: Path, *, run: bool = True) -> Contents:
    """What is inside the model at `path`, told apart by content and not by name.

    `run` also lets onnxruntime load an ONNX file and counts what it made of it. Reads the file in a process of its own.
    Raises `ArtifactError` for anything that is no model.
    """
    return run_isolated(_inspect, find_model(path), run)


def read_entry(path: Path) -> Entry:
    """The first input of the model file at `path`; reads it in a process of its own. Raises `ArtifactError`."""
    return run_isolated(_entry, path)


def _inspect(file: Path, run: bool) -> Contents:
    data = read_bytes(file)
    with read_untrusted(f"{file} cannot be read"):
        if data[4:8] == b"TFL3":
            from edgeq.formats.tflite.read import read_tflite

            return read_tflite(data)
        try:
            from edgeq.formats.onnx.read import read_onnx

            return read_onnx(data, run=run)
        except ArtifactError as error:
            if file.suffix == ".onnx":
                raise
            raise ArtifactError(f"{file} is neither a TFLite nor an ONNX model", why=error.what) from error


def _entry(file: Path) -> Entry:
    data = read_bytes(file)
    with read_untrusted(f"{file} cannot be read"):
        if file.suffix == ".onnx":
            return _onnx_entry(data)
        from edgeq.formats.tflite.read import read_tflite

        tensor = read_tflite(data).inputs[0]
        if tensor.type == "float32":
            return Entry(tensor.type, 1.0, 0)
        return Entry(
            tensor.type, *((tensor.scales[0], tensor.zero_point or 0) if len(tensor.scales) == 1 else (0.0, 0))
        )


def _onnx_entry(data: bytes) -> Entry:
    import numpy as np
    from onnx.helper import tensor_dtype_to_np_dtype

    from edgeq.formats.onnx.file import read_model

    model, _ = read_model(data)
    value = model.inputs[0]
    kind = np.dtype(tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
    signed = model.signed_activations()
    if kind == "float32":
        return Entry(kind, 1.0, 0, signed)
    grid = model.input_grid(value.name)
    return Entry(kind, *((float(grid.scale), grid.zero_point) if grid else (0.0, 0)), signed)
