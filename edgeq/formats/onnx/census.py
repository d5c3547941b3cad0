"""Census of ONNX files: as written, and as onnxruntime runs them after its fusions. Also for files others wrote."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx

from edgeq.formats.census import Census
from edgeq.formats.onnx.file import MOVES, Model, read_model
from edgeq.formats.onnx.session import OrtSession

__all__ = ["census", "optimized_census"]

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_KERNELS = (
    "QLinear",
    "QGemm",
    "QAttention",
    "NhwcMaxPool",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "MatMulInteger",
)
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_FREE = ("Constant", "Shape", "Size")


def census(model: Path | bytes) -> Census:
    """What the file says. A float op between DequantizeLinear and QuantizeLinear counts as the integer op it means,
    arithmetic on constants alone (folded at loading) as nothing; the conversions themselves are still counted."""
    return _count(read_model(model)[0], as_written=True)


def optimized_census(model: Path | bytes | OrtSession, activations: str = "int8") -> Census:
    """What onnxruntime made of the file on this machine.

    With `activations` "int8", signed activations may fuse as they do on Arm; anything else keeps x86's own rule. A
    session brings its own setting. Transposes include those the runtime added for its kernels' layout.
    """
    session = model if isinstance(model, OrtSession) else OrtSession(model, allow_int8=activations == "int8")
    return _count(read_model(session.optimized())[0], as_written=False)


def _count(model: Model, *, as_written: bool) -> Census:
    nodes = [node for node in model.graph.node if node.op_type not in _FREE]
    if as_written:
        nodes = [node for node in nodes if node.op_type in _CONVERSIONS or not _constant(node, model)]
    types = _element_types(model)
    floats = [node for node in nodes if node.op_type not in _CONVERSIONS and _is_float(node, types)]
    if as_written:
        floats = [node for node in floats if not _is_between_pairs(node, model)]
    inner = Counter(node.op_type for node in nodes if node.op_type in _CONVERSIONS and not _at_edge(node, model))
    return Census(
        kinds=dict(sorted(Counter(node.op_type for node in nodes).items())),
        float_ops=len(floats),
        transposes=sum(node.op_type == "Transpose" for node in nodes),
        quantize=inner["QuantizeLinear"],
        dequantize=inner["DequantizeLinear"],
        spatial_pads=sum(node.op_type == "Pad" and _spatial(node, model, as_written) for node in nodes),
        float_convolutions=sum("Conv" in node.op_type for node in floats),
        float_matmuls=sum("Gemm" in node.op_type or "MatMul" in node.op_type for node in floats),
    )


def _element_types(model: Model) -> dict[str, int]:
    """Element type of every tensor, passed along from inputs: exact for the ops quantized CNNs are made of."""
    types = {name: proto.data_type for name, proto in model.initializers.items()}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.inputs}
    for node in model.graph.node:
        kind = types.get(node.input[0], 0) if node.input else 0
        if node.op_type == "DequantizeLinear":
            kind = onnx.TensorProto.FLOAT
        elif node.op_type == "QuantizeLinear":
            kind = types.get(node.input[2], 0) if len(node.input) > 2 else onnx.TensorProto.UINT8
        elif node.op_type == "Cast":
            kind = next(a.i for a in node.attribute if a.name == "to")
        elif node.op_type == "Constant":
            kind = next((a.t.data_type for a in node.attribute if a.name == "value"), onnx.TensorProto.INT64)
        elif node.op_type in ("Shape", "Size"):
            kind = onnx.TensorProto.INT64
        elif node.op_type == "QLinearConcat":  # output scale and zero point come first
            kind = types.get(node.input[1], 0)
        elif node.op_type == "MatMulIntegerToFloat":
            kind = onnx.TensorProto.FLOAT
        types |= dict.fromkeys(node.output, kind)
    return types


def _is_float(node: onnx.NodeProto, types: dict[str, int]) -> bool:
    if node.op_type.startswith(_INTEGER_KERNELS):
        return False
    return bool(node.input) and types.get(node.input[0], 0) in _FLOATS


def _constant(node: onnx.NodeProto, model: Model) -> bool:
    return all(not name or model.constant(name) is not None for name in node.input)


def _is_between_pairs(node: onnx.NodeProto, model: Model) -> bool:
    """Every tensor comes out of a DequantizeLinear (or is a constant) and goes into a QuantizeLinear."""

    def dequantized(name: str) -> bool:
        producer = model.producer.get(name)
        return not name or name in model.initializers or (producer is not None and producer.op_type in _SOURCES)

    readers = [reader for output in node.output for reader in model.readers.get(output, [])]
    ends = bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)
    return ends and all(dequantized(name) for name in node.input)


_SOURCES = ("DequantizeLinear", "Constant")


def _at_edge(node: onnx.NodeProto, model: Model) -> bool:
    """A conversion of the model's own input or output, possibly through moving ops and one other conversion."""
    passing = MOVES | set(_CONVERSIONS)

    @functools.cache  # several ways may lead to one tensor
    def from_input(name: str) -> bool:
        producer = model.producer.get(name)
        if producer is None:
            return name not in model.initializers
        return producer.op_type in passing and from_input(producer.input[0])

    @functools.cache
    def to_output(name: str) -> bool:
        if any(output.name == name for output in model.outputs):
            return True
        readers = model.readers.get(name, [])
        return bool(readers) and all(reader.op_type in passing and to_output(reader.output[0]) for reader in readers)

    def then_quantized(name: str) -> bool:
        readers = model.readers.get(name, [])
        return bool(readers) and all(reader.op_type == "QuantizeLinear" for reader in readers)

    if node.op_type == "QuantizeLinear":
        return from_input(node.input[0]) or (_follows_dequantize(node, model) and to_output(node.output[0]))
    return to_output(node.output[0]) or (from_input(node.input[0]) and then_quantized(node.output[0]))


def _follows_dequantize(node: onnx.NodeProto, model: Model) -> bool:
    producer = model.producer.get(node.input[0])
    return producer is not None and producer.op_type == "DequantizeLinear"


def _spatial(node: onnx.NodeProto, model: Model, as_written: bool) -> bool:
    """Pads height or width. Counts that are computed count as spatial.

    A runtime that changed the layout leaves no word of it; then padding one dimension is taken for the channels'.
    """
    attribute = next((list(a.ints) for a in node.attribute if a.name == "pads"), None)
    counts = attribute if attribute is not None else model.constant(node.input[1])
    axes = model.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if counts is None:
        return True
    places = list(axes) if axes is not None else list(range(len(counts) // 2))
    padded = {int(place) % 4 for place, pair in zip(places, np.reshape(counts, (2, -1)).T, strict=True) if any(pair)}
    return bool(padded & {2, 3}) if as_written else len(padded) > 1
