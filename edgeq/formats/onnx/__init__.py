"""ONNX files: written from an integer (or float) graph, run, read back, counted and verified."""
