"""TFLite files: written from an integer (or float) graph, run, read back, counted and verified.

Nothing is imported here: a board with tflite-runtime runs files without the packages that write them.
"""
