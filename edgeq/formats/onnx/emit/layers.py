"""ONNX nodes of convolutions, linear layers and pools.

ONNX orders padding ``(top, left, bottom, right)``, the graph ``(top, bottom, left, right)``.
"""

from __future__ import annotations

from edgeq.formats.onnx.context import Context
from edgeq.formats.onnx.emit.table import EMITTERS
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    AvgPool2d,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Sides,
)

__all__: list[str] = []


def _pads(padding: Sides) -> list[int] | None:
    top, bottom, left, right = padding
    return [top, left, bottom, right] if any(padding) else None


def _unless_ones(numbers: tuple[int, ...]) -> list[int] | None:
    return list(numbers) if any(number != 1 for number in numbers) else None


@EMITTERS.rule(Conv2d)
def _conv(context: Context, node: Node, op: Conv2d) -> None:
    context.convolve(
        node,
        clamp=op.activation,
        strides=_unless_ones(op.stride),
        pads=_pads(op.padding),
        dilations=_unless_ones(op.dilation),
        group=op.groups if op.groups > 1 else None,
    )


@EMITTERS.rule(Linear)
def _linear(context: Context, node: Node, op: Linear) -> None:
    bias = [context.bias(node)] if len(node.inputs) > 2 else []
    inputs = [context.real(node.inputs[0]), context.parameter(node.inputs[1]), *bias]
    context.compute(node, "Gemm", inputs, clamp=op.activation, transB=1)


@EMITTERS.rule(GlobalAvgPool)
def _global_avg_pool(context: Context, node: Node, op: GlobalAvgPool) -> None:
    # Not ReduceMean, which onnxruntime has no integer kernel for.
    context.compute(node, "GlobalAveragePool", [context.real(node.inputs[0])])


@EMITTERS.rule(AvgPool2d)
def _avg_pool(context: Context, node: Node, op: AvgPool2d) -> None:
    context.compute(
        node,
        "AveragePool",
        [context.real(node.inputs[0])],
        kernel_shape=list(op.kernel),
        strides=_unless_ones(op.stride),
        pads=_pads(op.padding),
        count_include_pad=1 if op.count_padding and any(op.padding) else None,
    )


@EMITTERS.rule(MaxPool2d)
def _max_pool(context: Context, node: Node, op: MaxPool2d) -> None:
    context.move(
        node,
        "MaxPool",
        [node.inputs[0]],
        [],
        kernel_shape=list(op.kernel),
        strides=_unless_ones(op.stride),
        pads=_pads(op.padding),
    )
