"""A file loaded by one of the runtimes."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from . import RUNTIMES


class Tflite:
    """A TFLite file under LiteRT or tflite-runtime."""

    def __init__(self, name: str, path: str, threads: int, kernels: str) -> None:
        module = importlib.import_module(RUNTIMES[name][0])
        kind = module.OpResolverType
        resolver = {
            "xnnpack": kind.AUTO,
            "builtin": kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": kind.BUILTIN_REF,
        }[kernels]
        self.interpreter = module.Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
        self.interpreter.allocate_tensors()
        self.index = self.interpreter.get_input_details()[0]["index"]
        self.detail = self.interpreter.get_input_details()[0]
        self.outputs = [detail["index"] for detail in self.interpreter.get_output_details()]

    def empty(self, numpy: Any) -> Any:
        return numpy.zeros(self.detail["shape"], self.detail["dtype"])

    def prepare(self, sample: Any) -> None:
        self.interpreter.set_tensor(self.index, sample)

    def invoke(self) -> None:
        self.interpreter.invoke()

    def answer(self) -> list[Any]:
        return [self.interpreter.get_tensor(index) for index in self.outputs]

    def ran(self) -> dict[str, int]:
        """Ops as the interpreter lists them; a DELEGATE is what XNNPACK took over."""
        counts: dict[str, int] = {}
        for op in getattr(self.interpreter, "_get_ops_details", list)():
            counts[op["op_name"]] = counts.get(op["op_name"], 0) + 1
        return counts


class Onnx:
    """An ONNX file under onnxruntime's CPU kernels."""

    def __init__(self, path: str, threads: int, settings: dict[str, str]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0]
        self.fed: dict[str, Any] = {}
        self.made: list[Any] = []

    def empty(self, numpy: Any) -> Any:
        kinds = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}
        shape = [size if isinstance(size, int) else 1 for size in self.input.shape]
        return numpy.zeros(shape, kinds[self.input.type])

    def prepare(self, sample: Any) -> None:
        self.fed = {self.input.name: sample}

    def invoke(self) -> None:
        self.made = self.session.run(None, self.fed)

    def answer(self) -> list[Any]:
        return self.made

    def ran(self) -> dict[str, int]:
        return {}


def load(request: dict[str, Any], path: str) -> Any:
    name = request["runtime"]
    if name == "onnxruntime":
        return Onnx(path, request["threads"], request.get("session", {}))
    return Tflite(name, path, request["threads"], request["kernels"])


def runtime_version(name: str) -> str:
    try:
        return "%s %s" % (RUNTIMES[name][1], metadata.version(RUNTIMES[name][1]))
    except metadata.PackageNotFoundError:
        return RUNTIMES[name][1]
