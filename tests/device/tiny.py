"""A build's folder around a tiny network, made in milliseconds."""

from __future__ import annotations

from pathlib import Path

from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from tests.formats.residual import frozen, residual_network


def tiny_model(folder: Path) -> Path:
    """`model.tflite` and `float.tflite` of the residual network, in `folder`."""
    folder.mkdir()
    network = residual_network()
    (folder / "model.tflite").write_bytes(write_tflite(frozen(network), io="int8"))
    (folder / "float.tflite").write_bytes(write_tflite_float(network))
    return folder
