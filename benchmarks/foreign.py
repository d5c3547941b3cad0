"""Model files edgeq did not make: which ops their runtime finds in them, and how often they are right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.data.evaluation import EvaluationSet
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.session import Session
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.model.spec import ModelSpec

FLOAT_TYPE = 0  # TensorType.FLOAT32 in the TFLite schema


def open_file(path: Path, threads: int = 1) -> Session:
    """A session on `path` as its users run it: XNNPACK for .tflite, the CPU provider for .onnx."""
    return OrtSession(path, threads=threads) if path.suffix == ".onnx" else LiteRTSession(path, threads=threads)


def ops(path: Path) -> tuple[dict[str, int], int]:
    """Ops by name, and how many of them compute in float; conversions between float and integer are not counted there.

    An .onnx file is counted after onnxruntime's fusions, which is what runs.
    """
    if path.suffix == ".onnx":
        from edgeq.formats.onnx.census import optimized_census

        census = optimized_census(path, "uint8")
        return dict(Counter(census.kinds).most_common()), census.float_ops
    return _tflite_ops(path)


def _tflite_ops(path: Path) -> tuple[dict[str, int], int]:
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes()))
    (graph,) = model.subgraphs
    kinds: Counter[str] = Counter()
    floats = 0
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        kinds[kind] += 1
        if kind not in ("QUANTIZE", "DEQUANTIZE"):
            floats += graph.tensors[operator.outputs[0]].type == FLOAT_TYPE
    return dict(kinds.most_common()), floats


def top1(path: Path, images: EvaluationSet, spec: ModelSpec, *, pixels: bool = False, shift: int = 0) -> float:
    """Percent of `images` the file is right about.

    With `pixels` the file's integer input is the pixels themselves (less 128 where it is signed), whatever scale it
    states; `shift` is what the file's class numbers are too high by.
    """
    session = open_file(path)
    correct = 0
    for start in range(0, len(images), 50):
        batch, labels = images.images[start : start + 50], images.labels[start : start + 50]
        values = _meaning_of_pixels(batch, path) if pixels else spec.normalise(batch)
        # One by one: many peers' files reshape to batch 1 inside.
        answers = [int(session.run(value[None])[0].argmax()) for value in values]
        correct += int((np.array(answers) - shift == labels).sum())
    return 100 * correct / len(images)


def _meaning_of_pixels(batch: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.float32]:
    """The real values ``(N, C, H, W)`` that the file's input quantizes to the pixels."""
    from ai_edge_litert.interpreter import Interpreter

    (detail,) = Interpreter(model_path=str(path)).get_input_details()
    scale, zero_point = detail["quantization"]
    offset = 128 if np.dtype(detail["dtype"]) == np.int8 else 0
    values = (batch.astype(np.float32) - offset - zero_point) * np.float32(scale)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
