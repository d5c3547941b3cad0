"""What runs on a device: Python 3.9 or later, numpy and one runtime. It imports nothing of edgeq.

`edgeq.device.runners.python.pack_agent` makes one file of this package, which is copied to the device.
"""

MARK = "edgeq"
"""Key of the lines that mean something among all that is printed on a device; its value says what a line is."""

RUNTIMES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
}
"""Module and package of each runtime."""
