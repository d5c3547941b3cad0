"""Softmax, means of squares and inverse square roots as ONNX Runtime's kernels compute them in integers."""

from __future__ import annotations

import numpy as np

from edgeq.formats.onnx.reference.rescale import limit
from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    MeanSquare,
    Rsqrt,
    Softmax,
)
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.norms import eps_steps, rsqrt_table

__all__: list[str] = []


@KERNELS.rule(MeanSquare)
def _mean_square(graph: IntegerGraph, node: Node, op: MeanSquare, inputs: list[Integers], shift: int) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    centred = inputs[0].astype(np.int64) - int(x.zero_point)
    total = (centred * centred).sum(axis=1, keepdims=True)
    factor = x.scale * (x.scale / np.float32(inputs[0].shape[1])) / y.scale
    return limit(np.rint(total.astype(np.float32) * factor) + int(y.zero_point) + eps_steps(op, y), y, None)


@KERNELS.rule(Rsqrt)
def _rsqrt(graph: IntegerGraph, node: Node, op: Rsqrt, inputs: list[Integers], shift: int) -> Integers:
    """A table, which is exact."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    return np.asarray(rsqrt_table(x, y)[inputs[0].astype(np.int64) + 128])


@KERNELS.rule(Softmax)
def _softmax(graph: IntegerGraph, node: Node, op: Softmax, inputs: list[Integers], shift: int) -> Integers:
    """A table of exponentials in 23-bit integers, and an integer division that rounds."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    unit = min((2**32 - 1) / inputs[0].shape[op.axis], float(0x7FFFFF))
    distance = inputs[0].astype(np.int64) - inputs[0].max(axis=op.axis, keepdims=True)
    table = np.rint(unit * np.exp(distance * np.float64(x.scale * np.float32(op.beta)))).astype(np.int64)
    total = table.sum(axis=op.axis, keepdims=True)
    steps = int(np.rint(1 / np.float64(y.scale)))
    return limit((table * steps + total // 2) // total + int(y.zero_point), y, None)
