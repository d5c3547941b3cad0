"""Model files edgeq did not make: which ops they hold once their runtime has loaded them, and how often they are right.

edgeq's own sessions read only what edgeq writes; a peer's file may want raw pixels, NCHW, or one class more.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Outputs = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
FLOAT_TYPE = 0  # TensorType.FLOAT32 in the TFLite schema


def tflite_ops(path: Path) -> tuple[dict[str, int], int]:
    """Ops by name, and how many of them compute in float (conversions between float and integer not counted)."""
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


def onnx_ops(path: Path) -> tuple[dict[str, int], int]:
    """Ops of the graph onnxruntime really runs (its optimized model), and how many convolutions, matrix products and
    additions among them are float."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = (
            3  # it warns that the dumped graph suits this machine only: the very reason to look
        )
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    kinds = Counter(node.op_type for node in graph.node)
    floats = sum(kinds[kind] for kind in ("Conv", "FusedConv", "MatMul", "Gemm", "FusedGemm", "FusedMatMul", "Add"))
    return dict(kinds.most_common()), floats


def ops(path: Path) -> tuple[dict[str, int], int]:
    return onnx_ops(path) if path.suffix == ".onnx" else tflite_ops(path)


def tflite_outputs(path: Path, threads: int = 1) -> Outputs:
    """A function from real-valued NHWC inputs ``(n, H, W, C)`` to real-valued outputs ``(n, classes)``."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    channels_first = source["shape"][1] == 3 and source["shape"][3] != 3

    def outputs(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        values = _quantized(inputs, source)
        if channels_first:
            values = values.transpose(0, 3, 1, 2)
        results = []
        for value in values:
            interpreter.set_tensor(source["index"], np.ascontiguousarray(value[None]))
            interpreter.invoke()
            results.append(interpreter.get_tensor(sink["index"]).reshape(-1))
        return _real(np.stack(results), sink)

    return outputs


def onnx_outputs(path: Path, threads: int = 1) -> Outputs:
    """Like `tflite_outputs`, for an .onnx file with float32 NCHW input and output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def outputs(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        planes = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        return np.concatenate([session.run(None, {name: plane[None]})[0] for plane in planes])

    return outputs


def _quantized(values: npt.NDArray[np.float32], detail: dict) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values.astype(np.float32)
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(detail["dtype"])


def _real(values: np.ndarray, detail: dict) -> npt.NDArray[np.float32]:
    scale, zero_point = detail["quantization"]
    if not scale:
        return values.astype(np.float32)
    return ((values.astype(np.float32) - zero_point) * scale).astype(np.float32)


def predictions(
    path: Path,
    images: npt.NDArray[np.uint8],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    pixels: bool = False,
    shift: int = 0,
) -> npt.NDArray[np.int64]:
    """The class of each image ``(N, H, W, C)``. With `pixels` an integer input gets the pixels themselves (an int8 one
    less 128) and a float one 0..255; `shift` is what the file's class numbers are too high by."""
    outputs = onnx_outputs(path) if path.suffix == ".onnx" else tflite_outputs(path)
    found = []
    for start in range(0, len(images), 50):
        batch = images[start : start + 50]
        if pixels:
            values = _as_real(batch, path)
        else:
            values = (batch.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        found.append(outputs(values).argmax(1) - shift)
    return np.concatenate(found)


def _as_real(batch: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.float32]:
    """The real values that quantize to the pixels: "input is raw pixels" in the file's own terms."""
    from ai_edge_litert.interpreter import Interpreter

    (detail,) = Interpreter(model_path=str(path)).get_input_details()
    scale, zero_point = detail["quantization"]
    if not scale:
        return batch.astype(np.float32)
    offset = 128 if np.dtype(detail["dtype"]) == np.int8 else 0
    return ((batch.astype(np.float32) - offset - zero_point) * scale).astype(np.float32)
