"""Integer graph, or float graph for a baseline, to TFLite bytes."""

from __future__ import annotations

import math

from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import ConflictError, TargetLimitError
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.tflite.emit import Emitter, emit
from edgeq.formats.tflite.emit.elementwise import UNFUSED
from edgeq.formats.tflite.flatbuffer import serialize
from edgeq.formats.tflite.layout import Network, plan
from edgeq.formats.tflite.metadata import BUFFER_NAME, LABELS, metadata, with_files
from edgeq.graph.ir import Graph, Node
from edgeq.graph.passes.insert_requantize import remove_requantize
from edgeq.graph.passes.lower_hard_swish import raise_hard_swish
from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = ["write_tflite", "write_tflite_float"]

IO_TYPES = ("int8", "uint8", "int16", "float32")
WEIGHT_TYPES = ("int8", "int4")


def write_tflite(
    graph: IntegerGraph, *, io: str | None = None, weights: str = "int8", about: ModelMetadata | None = None
) -> bytes:
    """An all-integer file: NHWC, batch 1, inputs and outputs of type `io`: what they have in `graph` (None, or its
    name), or float32, or uint8 where they are int8.

    `weights`: how weights of four bits or fewer are stored; ``int4`` is two a byte, which LiteRT's own kernels run and
    XNNPACK, for convolutions, leaves to them. The integers computed are the same. `about` becomes the file's metadata.
    Raises `UnsupportedError` naming the node that has no TFLite form, and `ConfigError` for other types.
    """
    types = graph.activation_types
    if io not in (None, *IO_TYPES):
        raise ConflictError(f"cannot write {io!r} inputs and outputs", hint=f"one of {', '.join(IO_TYPES)}")
    if weights not in WEIGHT_TYPES:
        raise ConflictError(f"cannot store weights as {weights!r}", hint=f"one of {', '.join(WEIGHT_TYPES)}")
    for name in (*graph.inputs, *graph.outputs):
        inner = graph.quantizations[name].dtype
        if io not in (None, inner, "float32") and (inner, io) != ("int8", "uint8"):
            raise ConflictError(
                f"{io} inputs and outputs of {inner} activations",
                where=name,
                why="they would be rounded twice",
                hint=f"{inner} or float32",
            )
    if types == {"int16"} and weights == "int4":
        raise ConflictError("int4 storage beside 16-bit activations", why="TFLite has no such kernels", hint="int8")
    if graph.narrow():
        raise TargetLimitError(
            "activations of fewer than 8 bits", where=graph.narrow()[0], why="TFLite's kernels saturate at 8"
        )
    return _write(graph, io, weights, about)


def write_tflite_float(graph: Graph) -> bytes:
    """Write the network in float32 by the same emitters, for comparison with an integer file."""
    return _write(_apart(remove_requantize(graph)), "float32")


def _apart(graph: Graph) -> Graph:
    """`graph` with some clamps as nodes of their own again, for only an integer grid can end there, and hard swishes
    whole, for which there are kernels in float."""
    graph = raise_hard_swish(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        clamp = node.op.fused_activation
        if clamp is not None and clamp in UNFUSED:
            nodes.append(Node(f"{node.name}/linear", node.op.with_activation(None), node.inputs))
            nodes.append(Node(node.name, clamp, (f"{node.name}/linear",)))
        else:
            nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def _write(graph: Network, io: str | None, weights: str = "int8", about: ModelMetadata | None = None) -> bytes:
    if any(graph.shapes[name][0] != 1 for name in graph.inputs):
        raise TargetLimitError("a TFLite file holds batch 1 only", where=graph.name, hint="capture with batch 1")
    e = Emitter(graph, plan(graph), weights)
    for name in graph.inputs:
        _input(e, name, io)
    for node in graph.nodes:
        emit(e, node)
    for name in graph.outputs:
        _output(e, name, io)
    if about is None:
        return serialize(e.file)
    e.file.metadata[BUFFER_NAME] = metadata(about, len(graph.inputs), len(graph.outputs))
    labels = {LABELS: "".join(f"{label}\n" for label in about.labels).encode()} if about.labels else {}
    return with_files(serialize(e.file), labels)


def _mirrored_axes(e: Emitter, name: str) -> list[int]:
    """The NHWC dimensions of `name` that have to be reversed at the network's edge."""
    shape = e.graph.shapes[name]
    return [1 + i for i in (0, 1) if len(shape) == 4 and e.layout.mirror[i] and shape[2 + i] > 1]


def _reverse(e: Emitter, x: int, name: str, axes: list[int]) -> int:
    """REVERSE_V2 takes a tenth of the time of a STRIDED_SLICE with negative steps: it copies whole blocks.

    One op per axis: tflite-runtime 2.14 takes two axes without complaint and reverses one. Version 1, because its
    reference kernels register no later one although they know int8.
    """
    shape = e.file.tensors[x].shape
    for place, axis in enumerate(axes):
        last = place == len(axes) - 1
        y = e.like(x, name if last else f"{name}/{axis}", shape)
        e.operator(schema.BuiltinOperator.REVERSE_V2, (x, e.numbers([axis])), y, None, 1)
        x = y
    return x


def _reverse_all(e: Emitter, x: int, name: str) -> int:
    """All values in reverse order, as one row: rows, columns and channels at once, and at memory speed."""
    shape = e.file.tensors[x].shape
    row = (math.prod(shape),)
    flat, turned, y = e.like(x, f"{name}/row", row), e.like(x, f"{name}/reversed", row), e.like(x, name, shape)
    e.operator(schema.BuiltinOperator.RESHAPE, (x, e.numbers(row)), flat, None, 1)
    e.operator(schema.BuiltinOperator.REVERSE_V2, (flat, e.numbers([0])), turned, None, 1)
    e.operator(schema.BuiltinOperator.RESHAPE, (turned, e.numbers(shape)), y, None, 1)
    return y


def _shift_to_uint8(q: Quantization) -> Quantization:
    """The uint8 view of an int8 quantization; described as int16 because `LIMITS` knows signed types only."""
    return Quantization(q.scale, q.zero_point + 128, "int16")


def _edge_quantization(q: Quantization | None, io: str) -> Quantization | None:
    return None if io == "float32" or q is None else (_shift_to_uint8(q) if io == "uint8" else q)


def _input(e: Emitter, name: str, io: str | None) -> None:
    q, inner_type = e.quantizations.get(name), e.type_of(name)
    e.dtype, io = inner_type, io or inner_type
    shape = e.file_shape(e.graph.shapes[name])
    x = e.activation(name, shape, _edge_quantization(q, io), io)
    e.file.inputs.append(x)
    axes = _mirrored_axes(e, name)
    if name in e.layout.reversed_channels:
        x = _reverse_all(e, x, f"{name}/mirrored")
    elif axes:
        x = _reverse(e, x, f"{name}/mirrored", axes)
    if io != inner_type:
        inner = e.activation(f"{name}/{inner_type}", shape, q)
        e.operator(schema.BuiltinOperator.QUANTIZE, (x,), inner, None, 2 if io == "uint8" else 1, wide=2)
        x = inner
    e.index[name] = x


def _output(e: Emitter, name: str, io: str | None) -> None:
    q, y = e.quantizations.get(name), e.index[name]
    e.dtype = e.type_of(name)
    io = io or e.dtype
    shape = e.file.tensors[y].shape
    if io != e.dtype:
        edge = e.activation(f"{name}/{io}", shape, _edge_quantization(q, io), io)
        if io == "uint8":
            e.operator(schema.BuiltinOperator.QUANTIZE, (y,), edge, None, 2)
        else:
            e.operator(schema.BuiltinOperator.DEQUANTIZE, (y,), edge, None, 2)
        y = edge
    axes = _mirrored_axes(e, name)
    if axes:
        y = _reverse(e, y, f"{name}/output", axes)
    e.file.outputs.append(y)
