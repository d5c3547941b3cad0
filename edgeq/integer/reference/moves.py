"""Ops that move, select or resize integers, as LiteRT's reference kernels compute them."""

from __future__ import annotations

import numpy as np

from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.resize import resize
from edgeq.integer.reference.table import KERNELS, Array

__all__: list[str] = []


@KERNELS.rule(ops.Concat)
def _concat(graph: IntegerGraph, node: Node, op: ops.Concat, inputs: list[Array]) -> Array:
    return np.concatenate(inputs, axis=op.axis)


@KERNELS.rule(ops.Constant)
def _constant(graph: IntegerGraph, node: Node, op: ops.Constant, inputs: list[Array]) -> Array:
    return graph.constants[node.inputs[0]]


@KERNELS.rule(ops.Pad)
def _pad(graph: IntegerGraph, node: Node, op: ops.Pad, inputs: list[Array]) -> Array:
    zero = int(graph.quantizations[node.name].zero_point)
    return np.pad(inputs[0], tuple(zip(op.before, op.after, strict=True)), constant_values=zero)


@KERNELS.rule(ops.Slice)
def _slice(graph: IntegerGraph, node: Node, op: ops.Slice, inputs: list[Array]) -> Array:
    steps = [slice(a, b, k) for a, b, k in zip(op.start, op.stop, op.step, strict=True)]
    return inputs[0][(slice(None), *steps[1:])]


@KERNELS.rule(ops.Permute)
def _permute(graph: IntegerGraph, node: Node, op: ops.Permute, inputs: list[Array]) -> Array:
    return inputs[0].transpose(op.order)


@KERNELS.rule(ops.Resize2d)
def _resize(graph: IntegerGraph, node: Node, op: ops.Resize2d, inputs: list[Array]) -> Array:
    return resize(inputs[0], op)


@KERNELS.rule(ops.Reshape)
def _reshape(graph: IntegerGraph, node: Node, op: ops.Reshape, inputs: list[Array]) -> Array:
    return inputs[0].reshape(len(inputs[0]), *op.shape)
