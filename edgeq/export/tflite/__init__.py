"""TFLite files: written from an integer (or float) graph, and read back for a census."""

from edgeq.export.tflite.inspect import census
from edgeq.export.tflite.writer import write_tflite, write_tflite_float

__all__ = ["census", "write_tflite", "write_tflite_float"]
