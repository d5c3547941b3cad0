"""Read a TFLite file into `Contents`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import ArtifactError
from edgeq.formats.contents import Contents, Op, Tensor, check_shape
from edgeq.formats.tflite.census import census
from edgeq.isolation import read_untrusted

__all__ = ["read_tflite"]

_OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}


def read_tflite(data: bytes) -> Contents:
    """The file's first subgraph. Raises `ArtifactError` for bytes that are no whole TFLite model."""
    with read_untrusted("this TFLite model is damaged"):
        counted = census(data)  # refuses what is no model
        model = schema.Model.GetRootAs(data, 0)
        _check_buffers(model, len(data))
        graph = model.Subgraphs(0)
        tensors = {i: _tensor(model, graph.Tensors(i), i) for i in range(graph.TensorsLength())}
        return Contents(
            format="tflite",
            bytes=len(data),
            description=_text(model.Description()) + _others(model.SubgraphsLength() - 1),
            metadata=tuple(_text(model.Metadata(i).Name()) for i in range(model.MetadataLength())),
            inputs=_pick(tensors, graph.InputsAsNumpy()),
            outputs=_pick(tensors, graph.OutputsAsNumpy()),
            ops=tuple(_op(model, graph.Operators(i), tensors) for i in range(graph.OperatorsLength())),
            census=counted,
        )


def _check_buffers(model: Any, size: int) -> None:
    """Refuse contents that lie outside of the file: beyond its end, or in files it names."""
    if any(getattr(model, f"{kind}Length", int)() for kind in ("ExternalBufferGroups", "ExternalBuffers")):
        raise ArtifactError("this TFLite model keeps its weights in other files", hint="put them into the model")
    for place in range(model.BuffersLength()):
        buffer = model.Buffers(place)
        if buffer.Offset() > 1 and buffer.Offset() + buffer.Size() > size:  # 0 and 1: the contents are in line
            raise ArtifactError("this TFLite model is damaged", why=f"buffer {place} lies beyond the end of the file")


def _others(count: int) -> str:
    return f" (its first subgraph; {count} more not shown)" if count > 0 else ""


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _pick(tensors: Mapping[int, Tensor], indices: Any) -> tuple[Tensor, ...]:
    """An absent vector reads as 0 and an absent tensor as -1."""
    return () if isinstance(indices, int) else tuple(tensors[int(i)] for i in indices if i >= 0)


def _tensor(model: Any, tensor: Any, index: int) -> Tensor:
    buffer = model.Buffers(tensor.Buffer())
    grid = tensor.Quantization()
    scales: tuple[float, ...] = ()
    zero = None
    if grid is not None and grid.ScaleLength():
        scales = tuple(float(s) for s in grid.ScaleAsNumpy())
        zero = int(grid.ZeroPoint(0)) if grid.ZeroPointLength() else 0
    return Tensor(
        name=f"{index}:{_text(tensor.Name())}",  # names need not be unique in a TFLite file
        type=_TYPES.get(tensor.Type(), f"type {tensor.Type()}"),
        shape=check_shape(tensor.ShapeAsNumpy()) if tensor.ShapeLength() else (),
        scales=scales,
        zero_point=zero,
        constant=bool(buffer is not None and (buffer.DataLength() or buffer.Size())),
    )


def _op(model: Any, op: Any, tensors: Mapping[int, Tensor]) -> Op:
    code = model.OperatorCodes(op.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _text(code.CustomCode()) or str(_OPS.get(number, f"BUILTIN_{number}"))
    read, outputs = _pick(tensors, op.InputsAsNumpy()), _pick(tensors, op.OutputsAsNumpy())
    activations = tuple(t for t in read if not t.constant)
    return Op(kind, activations, tuple(t for t in read if t.constant), outputs, _macs(kind, read, outputs))


def _macs(kind: str, read: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates. Weights are OHWI, depthwise ones 1HWC, those of a linear (out, in)."""
    if kind == "CONV_2D":
        return math.prod(outputs[0].shape) * math.prod(read[1].shape[1:])
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(outputs[0].shape) * math.prod(read[1].shape[1:3])
    if kind == "TRANSPOSE_CONV":  # output shape, weights OHWI, input
        return math.prod(read[2].shape) * math.prod(read[1].shape[:3])
    if kind == "FULLY_CONNECTED":
        return math.prod(outputs[0].shape) * read[1].shape[-1]
    if kind == "BATCH_MATMUL":
        return math.prod(outputs[0].shape) * read[0].shape[-1]
    return 0
