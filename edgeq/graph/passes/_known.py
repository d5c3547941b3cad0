"""What is known about values without running the graph."""

from __future__ import annotations

from edgeq.graph.ir import Graph
from edgeq.graph.ops import (
    ELU,
    GELU,
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    Mish,
    Mul,
    Pad,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Softplus,
    Tanh,
)

__all__ = ["non_negative"]

_KEEPS_SIGN = (
    AvgPool2d, Concat, ELU, GELU, GlobalAvgPool, HardSwish, LeakyReLU, Maximum, MaxPool2d, Mish, Mul, Reshape, Slice,
    Tanh,
)  # fmt: skip


def non_negative(graph: Graph) -> set[str]:
    """Names of values that can hold nothing below zero."""
    known: set[str] = set()
    for node in graph.nodes:
        op, inputs_known = node.op, all(name in known for name in graph.activations(node))
        if isinstance(op, Clamp):
            holds = op.minimum >= 0 or (inputs_known and op.maximum >= 0)
        elif isinstance(op, (Conv2d, Linear, Add)):
            limited = op.activation is not None and op.activation.minimum >= 0
            holds = limited or (isinstance(op, Add) and inputs_known)
        elif isinstance(op, Pad):
            holds = inputs_known and not op.lowest
        else:
            always = isinstance(op, (HardSigmoid, Sigmoid, Softmax, Softplus))
            holds = always or (isinstance(op, _KEEPS_SIGN) and inputs_known)
        if holds:
            known.add(node.name)
    return known
