"""ONNX: the QDQ and float writers, and what a file or the runtime that loaded it is made of."""

from edgeq.formats.onnx.census import census, optimized_census
from edgeq.formats.onnx.metadata import described
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float

__all__ = ["census", "described", "optimized_census", "write_onnx", "write_onnx_float"]
