"""TFLite files: written from an integer (or float) graph, and read back for a census."""

from edgeq.export.tflite.writer import write_tflite, write_tflite_float

__all__ = ["write_tflite", "write_tflite_float"]
