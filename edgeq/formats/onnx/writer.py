"""Write an `IntegerGraph` as quantized ONNX (QDQ form), or the float `Graph` of the same network as its baseline."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgeq.errors import TargetLimitError
from edgeq.formats.onnx.builder import Builder
from edgeq.formats.onnx.context import FloatContext, QuantizedContext, array_range
from edgeq.formats.onnx.emit import emit
from edgeq.formats.onnx.file import QUANTIZED_SUFFIX
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Shape
from edgeq.graph.passes.lower_hard_swish import raise_hard_swish
from edgeq.integer.graph import IntegerGraph

__all__ = ["ActivationType", "IoType", "write_onnx", "write_onnx_float"]

ActivationType = Literal["int8", "uint8"]
IoType = Literal["float32", "int8", "uint8"]


def write_onnx(
    graph: IntegerGraph,
    *,
    activations: ActivationType,
    io: IoType = "float32",
    weight_bits: Literal[8, 7] = 8,
    batch: int | None = 1,
) -> bytes:
    """The network as an ONNX file whose every convolution, linear and add onnxruntime runs in integers.

    Args:
        graph: the frozen network; nothing in it is re-decided.
        activations: "int8" for Arm, "uint8" (the same integers shifted by 128) for x86.
        io: type of inputs and outputs, on the graph's own scales; "float32" adds one conversion at each.
        weight_bits: 7 refuses weights beyond ±64. Kernels for x86 without VNNI add pairs of products in 16 bits and
            saturate silently on larger ones; the quantizer has to make them smaller, a writer cannot.
        batch: leading dimension of inputs and outputs; None leaves it open. Every fusion holds either way.

    Returns:
        The file's bytes, the same for the same arguments.

    Raises:
        UnsupportedError: an op or a quantization that would not run in integers.
    """
    if activations not in ("int8", "uint8") or io not in ("float32", "int8", "uint8"):
        raise TargetLimitError(f"ONNX files here have int8 or uint8 activations, not {activations} with {io} inputs")
    if graph.activation_types != {"int8"}:
        raise TargetLimitError(
            "16-bit activations in an ONNX file",
            where=graph.name,
            why="onnxruntime has no 16-bit integer convolution and would compute it in float",
            hint="write a TFLite file",
        )
    if graph.narrow():
        raise TargetLimitError(
            "activations of fewer than 8 bits", where=graph.narrow()[0], why="onnxruntime's kernels saturate at 8"
        )
    _check_biases(graph)
    _check_weights(graph, weight_bits)
    ends = [*graph.inputs, *graph.outputs]
    edges = frozenset(ends) if io != activations else frozenset[str]()
    names = [*graph.shapes, *(value + QUANTIZED_SUFFIX for value in ends)]
    builder = Builder(names)
    context = QuantizedContext(builder, graph, activations, edges)
    for value in graph.inputs:
        if value in edges:
            outer = value if io == "float32" else context.dequantize(value, value, io)
            context.quantize(outer, value, activations, context.integers(value))
    for node in graph.nodes:
        emit(context, node)
    for value in dict.fromkeys(graph.outputs):
        if value in edges:
            # A pair of its own even where the value is also read inside: a fused op cannot also leave a float output.
            inner = context.integers(value)
            outer = context.dequantize(inner, value, activations, value if io == "float32" else None)
            if io != "float32":
                context.quantize(outer, value, io, value)
    return builder.finish(
        graph.name,
        {value: (io, graph.shapes[value]) for value in graph.inputs},
        _outputs(builder, graph, io),
        batch,
    )


def write_onnx_float(graph: Graph, *, batch: int | None = 1) -> bytes:
    """Write the network in float32 by the same emitters, for the comparison of latency and size.

    Raises `UnsupportedError` for an op without an ONNX form.
    """
    builder = Builder(list(graph.shapes))
    context = FloatContext(builder, graph)
    for node in raise_hard_swish(graph).nodes:
        emit(context, node)
    return builder.finish(
        graph.name,
        {value: ("float32", graph.shapes[value]) for value in graph.inputs},
        _outputs(builder, graph, "float32"),
        batch,
    )


def _outputs(builder: Builder, graph: Graph | IntegerGraph, kind: str) -> dict[str, tuple[str, Shape]]:
    """Type and shape of each output by its name; a value that leaves twice leaves under a second name, as a copy."""
    outputs: dict[str, tuple[str, Shape]] = {}
    for place, value in enumerate(graph.outputs):
        name = value if value not in outputs else builder.node("Identity", [value], f"{value}/output{place}")
        outputs[name] = (kind, graph.shapes[value])
    return outputs


def _check_biases(graph: IntegerGraph) -> None:
    """onnxruntime compares the bias scale with the float32 product and runs the layer in float when it differs."""
    for node in graph.layers():
        if len(node.inputs) < 3:
            continue
        x, w, b = (graph.quantizations[name].scale for name in node.inputs)
        if not np.array_equal(b, np.float32(x) * w):
            raise TargetLimitError(
                "the bias scale is not input scale x weight scale",
                where=node.name,
                hint="freeze computes it in float32",
            )


def _check_weights(graph: IntegerGraph, bits: int) -> None:
    for node in graph.layers():
        name = node.inputs[1]
        low, high = array_range(graph.constants[name])
        if bits == 7 and (low < -64 or high > 64):
            raise TargetLimitError(
                f"weight {name} has integers from {low} to {high}",
                where=node.name,
                why="7-bit weights stay within ±64",
                hint="quantize with weight_bits = 7",
            )
        if np.any(graph.quantizations[name].zero_point != 0):
            raise TargetLimitError(f"weight {name} is not symmetric", where=node.name, why="its zero point is not 0")
