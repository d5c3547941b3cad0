"""ONNX nodes of batch norm, softmax, means of squares and inverse square roots.

onnxruntime has no integer layer norm. It has integer products of matrices, of which a pixel's channels are one row and
one column, and a table of 256 integers is an inverse square root.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeq.formats.onnx.context import Context, QuantizedContext
from edgeq.formats.onnx.emit.table import EMITTERS
from edgeq.graph.ir import Node
from edgeq.graph.ops import BatchNorm, MeanSquare, Rsqrt, Softmax
from edgeq.integer.reference.norms import eps_steps, rsqrt_table

__all__: list[str] = []

MOST = 16
"""Positions to a product."""


@EMITTERS.rule(BatchNorm)
def _batch_norm(context: Context, node: Node, op: BatchNorm) -> None:
    inputs = [context.real(node.inputs[0]), *(context.parameter(name) for name in node.inputs[1:])]
    context.compute(node, "BatchNormalization", inputs, epsilon=op.eps)


@EMITTERS.rule(Softmax)
def _softmax(context: Context, node: Node, op: Softmax) -> None:
    if context.shape(node.name)[op.axis] == 1:
        context.fill(node, 1.0)  # onnxruntime's uint8 kernel makes 0 of a single value: 256 of 256 wraps
        return
    (value,) = node.inputs
    if op.beta == 1:
        x = context.real(value)
    elif isinstance(context, QuantizedContext):
        grid = context.grid(value)
        x = context.read(context.integers(value), replace(grid, scale=np.asarray(grid.scale * np.float32(op.beta))))
    else:
        x = context.builder.node("Mul", [context.real(value), context.builder.constant(np.array(op.beta, np.float32))])
    context.compute(node, "Softmax", [x], axis=op.axis)


@EMITTERS.rule(MeanSquare)
def _mean_square(context: Context, node: Node, op: MeanSquare) -> None:
    (value,) = node.inputs
    if not isinstance(context, QuantizedContext):
        x, make = context.real(value), context.builder.node
        mean = make("ReduceMean", [make("Mul", [x, x]), context.indices(1)])
        context.compute(node, "Add", [mean, context.builder.constant(np.array(op.eps, np.float32))])
        return
    make, grid, q = context.builder.node, context.grid(value), context.grid(node.name)
    _, channels, height, width = context.shape(value)
    last = make("Transpose", [context.integers(value)], perm=[0, 2, 3, 1])
    together = together_of(height * width)
    rows = make("Reshape", [last, context.indices(-1, together, channels)])
    columns = make("Transpose", [rows], perm=[0, 2, 1])
    # One of the two is read divided by the number of channels, which makes a mean of the sum.
    shared = replace(grid, scale=np.asarray(grid.scale / np.float32(channels)))
    product = make("MatMul", [context.read(rows, grid), context.read(columns, shared)], name=node.name)
    raised = replace(q, zero_point=np.asarray(q.zero_point + eps_steps(op, q), np.int32))  # epsilon, for nothing
    result = context.put(product, raised)
    if together > 1:  # of every product, the diagonal
        flat = make("Reshape", [result, context.indices(-1, together * together)])
        result = make("Slice", [flat, *(context.indices(n) for n in (0, together * together, 1, together + 1))])
    place = context.indices(-1, 1, height, width)
    context.hand_over(make("Reshape", [result, place], context.place(node.name)), node.name)


def together_of(positions: int) -> int:
    """Positions to a product of matrices. Of what it makes only the diagonal is wanted; but a product of a row and a
    column takes longer to begin than to compute."""
    return max(n for n in range(1, MOST + 1) if positions % n == 0)


@EMITTERS.rule(Rsqrt)
def _rsqrt(context: Context, node: Node, op: Rsqrt) -> None:
    (value,) = node.inputs
    if isinstance(context, QuantizedContext):
        context.look_up(node, rsqrt_table(context.grid(value), context.grid(node.name)))
    else:
        context.compute(node, "Reciprocal", [context.builder.node("Sqrt", [context.real(value)])])
