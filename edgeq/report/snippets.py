"""Programs ready to paste that hand a calibration set to other quantizers."""

from __future__ import annotations

import json

__all__ = ["snippets"]


def snippets(folder: str) -> dict[str, str]:
    """Name of the quantizer to a whole Python program for it: ``float.onnx`` or ``float.tflite`` in, ``int8.*`` out.

    `folder` holds the set, as the user would type it.
    """
    path = json.dumps(f"{folder}/calibration.npz", ensure_ascii=False)  # a JSON string is a Python string
    return {
        "onnxruntime.quantization": _ONNXRUNTIME.format(path=path),
        "LiteRT (ai-edge-quantizer)": _LITERT.format(path=path),
    }


# Inputs are (N, C, H, W). ONNX models take them as they are, one image at a time: the batch many files are fixed to.
_ONNXRUNTIME = """\
import numpy as np, onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static

class Images(CalibrationDataReader):
    def __init__(self, model, path):
        name = onnx.load(model).graph.input[0].name
        self.feeds = iter([{{name: image[None]}} for image in np.load(path)["inputs"]])
    def get_next(self):
        return next(self.feeds, None)

quantize_static("float.onnx", "int8.onnx", Images("float.onnx", {path}), per_channel=True,
                reduce_range=True)  # 7-bit weights: x86 without VNNI overflows with 8
"""

# TFLite models mostly take (N, H, W, C), those converted from torch often (N, C, H, W): the file says which. The data
# set is a list because ai-edge-quantizer counts it before it reads it, which would leave a generator empty.
_LITERT = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

model = Interpreter("float.tflite")
key, signature = next(iter(model.get_signature_list().items()))
name = signature["inputs"][0]
inputs = np.load({path})["inputs"]
if list(inputs.shape[1:]) != list(model.get_input_details()[0]["shape"][1:]):
    inputs = inputs.transpose(0, 2, 3, 1)

representative_dataset = [{{name: np.ascontiguousarray(image[None])}} for image in inputs]
made = quantizer.Quantizer("float.tflite", recipe.static_wi8_ai8())
made.quantize(made.calibrate({{key: representative_dataset}})).export_model("int8.tflite")
"""
