"""TFLite files: written from an integer (or float) graph, and read back for a census."""

from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float

__all__ = ["census", "write_tflite", "write_tflite_float"]
