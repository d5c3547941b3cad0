"""Programs ready to paste: hand a calibration set to other quantizers, and decode a detector's raw heads."""

from __future__ import annotations

import json
from pathlib import Path

from edgeq.config.formats import by_suffix
from edgeq.decode_grid import GridDecoding
from edgeq.model.spec import ModelSpec

__all__ = ["decoding_snippet", "snippets"]


def snippets(folder: str) -> dict[str, str]:
    """Name of the quantizer to a whole Python program for it: ``float.onnx`` or ``float.tflite`` in, ``int8.*`` out.

    `folder` holds the set, as the user would type it.
    """
    path = json.dumps(f"{folder}/calibration.npz", ensure_ascii=False)  # a JSON string is a Python string
    return {
        "onnxruntime.quantization": _ONNXRUNTIME.format(path=path),
        "LiteRT (ai-edge-quantizer)": _LITERT.format(path=path),
    }


def decoding_snippet(decoding: GridDecoding, spec: ModelSpec, file: str, raw: bool) -> str:
    """A whole Python program that runs the build's `file` on a picture and decodes its heads to boxes.

    `raw`: the file takes pixels from 0 to 255, not normalised values.
    """
    _, height, width = spec.input_shape
    facts = by_suffix(Path(file))
    run = _RUNS.get(facts.runtimes[0] if facts else "", _RUN_ANOTHER)
    mean, std = ([0.0], [1 / 255]) if raw else (list(spec.mean), list(spec.std))
    return _DECODING.format(
        size=(width, height), mean=mean, std=std, run=run.format(file=file), decoding=repr(decoding)
    ) + _PARTS.get(decoding.kind, "")


_DECODING = """\
import numpy as np
from PIL import Image

from edgeq.decode_grid import GridDecoding, decode_grid, detect_grid, instance_masks

pixels = np.asarray(Image.open("picture.png").convert("RGB").resize({size}), np.float32)
values = (pixels / 255 - {mean}) / {std}

{run}
decoding = {decoding}
[(found, extra)] = detect_grid(heads, decoding, score=0.25, overlap=0.45)
print(found.boxes, found.scores, found.labels)  # boxes are fractions of the picture
"""

_RUN_TFLITE = """\
from ai_edge_litert.interpreter import Interpreter

runtime = Interpreter("{file}")
runtime.allocate_tensors()

def to_real(detail):
    data, (scale, zero) = runtime.get_tensor(detail["index"]), detail["quantization"]
    return data if data.dtype == np.float32 else (data.astype(np.float32) - zero) * scale

[entry] = runtime.get_input_details()
if entry["dtype"] == np.float32:
    data = values
else:
    limits, (scale, zero) = np.iinfo(entry["dtype"]), entry["quantization"]
    data = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
runtime.set_tensor(entry["index"], data[None].astype(entry["dtype"]))
runtime.invoke()
heads = [to_real(detail).transpose(0, 3, 1, 2) for detail in runtime.get_output_details()]
"""

_RUN_ONNX = """\
import onnxruntime

runtime = onnxruntime.InferenceSession("{file}")
[entry] = runtime.get_inputs()
heads = runtime.run(None, {{entry.name: values.transpose(2, 0, 1)[None].astype(np.float32)}})
"""

_RUN_ANOTHER = """\
heads = ...  # what {file} answers to these values: real numbers, (1, C, H, W) each
"""

_RUNS = {"litert": _RUN_TFLITE, "onnxruntime": _RUN_ONNX}
"""How a file is run, by the runtime of its format."""

_PARTS = {
    "segment": "masks = instance_masks(extra, heads[-1][0], found.boxes)  # at the size of the prototypes\n",
    "pose": "points = extra.reshape(len(extra), *decoding.keypoints)  # x and y in pixels, visibility\n",
    "obb": "rows = decode_grid(heads, decoding)  # cx, cy, width, height in pixels, scores, angle in radians\n",
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
