"""Read an ONNX file into `Contents`.

QuantizeLinear and DequantizeLinear inside say on which grid a value lies. They are read as the types of the tensors
around them and not listed as work, which is how a runtime that fuses takes them.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import onnx
from onnx import TensorProto, shape_inference

from edgeq.errors import ArtifactError
from edgeq.formats.contents import Contents, Op, Tensor, check_shape
from edgeq.formats.onnx.census import census, optimized_census
from edgeq.formats.onnx.file import Grid, Model, read_model
from edgeq.isolation import read_untrusted

__all__ = ["read_onnx"]

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_RENAMED = {"float": "float32", "double": "float64"}


def read_onnx(data: bytes, *, run: bool = True) -> Contents:
    """The file's graph; with `run` onnxruntime loads it, too, and says what it made of it.

    Raises `ArtifactError` for bytes that are no ONNX model, and where onnxruntime refuses it.
    """
    with read_untrusted("this ONNX model is damaged"):
        model, _ = read_model(data)
        return _contents(data, model, run)


def _contents(data: bytes, model: Model, run: bool) -> Contents:
    reader = _Reader(model)
    entries = [f"{entry.key}={entry.value}" for entry in model.proto.metadata_props]
    return Contents(
        format="onnx",
        bytes=len(data),
        description=model.proto.doc_string or f"opset {max(o.version for o in model.proto.opset_import)}",
        metadata=tuple(entries),
        inputs=tuple(reader.end(value.name, model.input_grid(value.name)) for value in model.inputs),
        outputs=tuple(reader.end(value.name, model.output_grid(value.name)) for value in model.outputs),
        ops=reader.ops(),
        census=census(data),
        runtime_census=optimized_census(data, "int8" if model.signed_activations() else "uint8") if run else None,
    )


class _Reader:
    """Types and shapes of every tensor, and the grid it lies on if conversions beside it say so."""

    def __init__(self, model: Model) -> None:
        self.model = model
        try:
            proto = shape_inference.infer_shapes(model.proto)
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
            raise ArtifactError("this ONNX model contradicts itself", why=str(error).splitlines()[0]) from error
        self.known: dict[str, tuple[str, tuple[int, ...]]] = {}
        for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
            kind = value.type.tensor_type
            dims = [d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim]
            self.known[value.name] = _type(kind.elem_type), check_shape(dims)
        for name, tensor in model.initializers.items():
            self.known[name] = _type(tensor.data_type), check_shape(tensor.dims)
        self.fixed: set[str] = {"", *model.initializers}
        for node in model.graph.node:  # arithmetic on constants alone: done once, when the file is loaded
            if self.fixed.issuperset(node.input):
                self.fixed.update(node.output)

    def tensor(self, name: str) -> Tensor:
        """The tensor itself."""
        kind, shape = self.known.get(name, ("unknown", ()))
        return Tensor(name, kind, shape, constant=self.model.constant(name) is not None)

    def end(self, name: str, grid: Grid | None) -> Tensor:
        """An input or output of the model, with the `grid` that its integers lie on."""
        tensor = self.tensor(name)
        if grid is None or tensor.type != grid.dtype.name:
            return tensor
        return dataclasses.replace(tensor, scales=(float(grid.scale),), zero_point=grid.zero_point)

    def read(self, name: str) -> Tensor:
        """What an op reads: the quantized tensor behind a DequantizeLinear, else the tensor."""
        node = self.model.producer.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return self.tensor(name)
        return self._quantized(node, node.input[0])

    def made(self, name: str) -> Tensor:
        """What an op makes: the quantized tensor after a QuantizeLinear that is its only reader, else the tensor."""
        readers = self.model.readers.get(name, [])
        outputs = {value.name for value in self.model.outputs}
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear" or name in outputs:
            return self.tensor(name)
        return self._quantized(readers[0], readers[0].output[0])

    def _quantized(self, node: onnx.NodeProto, name: str) -> Tensor:
        scale = self.model.constant(node.input[1])
        zero = self.model.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        tensor = self.tensor(name)
        return dataclasses.replace(
            tensor,
            type=str(zero.dtype) if zero is not None and tensor.type == "unknown" else tensor.type,
            scales=tuple(float(s) for s in scale.reshape(-1)) if scale is not None else (),
            zero_point=int(zero.reshape(-1)[0]) if zero is not None and zero.size else 0,
        )

    def ops(self) -> tuple[Op, ...]:
        """Everything that computes or moves; conversions only at the model's own ends, nothing a loader folds away."""
        edge = {value.name for value in (*self.model.inputs, *self.model.outputs)}
        rows = []
        for node in self.model.graph.node:
            if node.output and node.output[0] in self.fixed:
                continue
            if node.op_type in _CONVERSIONS and not edge & {*node.input, *node.output}:
                continue
            plain = node.op_type in _CONVERSIONS
            read = [self.tensor(name) if plain else self.read(name) for name in node.input if name]
            outputs = [self.tensor(name) if plain else self.made(name) for name in node.output if name]
            moving = tuple(t for t in read if not t.constant)
            fixed = tuple(t for t in read if t.constant)
            rows.append(Op(node.op_type, moving, fixed, tuple(outputs), _macs(node, read, outputs)))
        return tuple(rows)


def _type(number: int) -> str:
    name = TensorProto.DataType.Name(number).lower() if number else "unknown"
    return _RENAMED.get(name, name)


def _macs(node: onnx.NodeProto, read: list[Tensor], outputs: list[Tensor]) -> int:
    """Multiply-accumulates. Weights are (out, in / groups, height, width), transposed ones (in, out, ...)."""
    if node.op_type == "Conv":
        return math.prod(outputs[0].shape) * math.prod(read[1].shape[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(read[0].shape) * math.prod(read[1].shape[1:])
    if node.op_type in ("Gemm", "MatMul"):
        transposed: Any = next((a.i for a in node.attribute if a.name == "transA"), 0)
        return math.prod(outputs[0].shape) * read[0].shape[-2 if transposed else -1]
    return 0
