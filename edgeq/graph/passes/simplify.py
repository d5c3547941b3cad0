"""Nodes that do nothing, moves made twice, and pairs that are one: reshapes, permutations, slices, pads, clamps, and
pixels repeated for a product."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    Add,
    Clamp,
    Concat,
    Constant,
    GlobalAvgPool,
    MatMul,
    Mul,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Shape,
    Slice,
    Unary,
)
from edgeq.graph.passes._edit import Edit
from edgeq.graph.passes._known import non_negative

__all__ = ["simplify"]


def simplify(graph: Graph) -> Graph:
    edit = Edit(graph)
    positive = non_negative(graph)
    first: dict[tuple[Op, str], str] = {}
    for node in graph.of_kind(Clamp, Pad, Permute, Reshape, Slice):
        (value,) = node.inputs
        before = edit.producer(value)
        same = first.setdefault((node.op, value), node.name)
        if _nothing(graph, node, value in positive):
            edit.forward(node.name, value)
        elif same != node.name and node.name not in graph.outputs and isinstance(node.op, (Permute, Reshape)):
            edit.forward(node.name, same)
        elif before is not None and isinstance(before.op, Constant) and isinstance(node.op, (Permute, Reshape, Slice)):
            moved = _move(node.op, graph.constants[before.inputs[0]])
            edit.replace(node, Node(node.name, Constant(), (edit.constant(f"{node.name}.moved", moved, node),)))
        elif before is not None and not edit.touched(before):
            joined = _join(before.op, node.op)
            if joined is not None:
                edit.replace(node, Node(node.name, joined, before.inputs))
    for node in graph.of_kind(GlobalAvgPool):
        before = edit.producer(node.inputs[0])
        if before is not None and isinstance(before.op, Reshape) and not edit.touched(before):
            sizes = graph.shapes[before.inputs[0]]
            if len(sizes) == 4 and sizes[1] == graph.shapes[node.name][1]:  # the same pixels in another picture
                edit.replace(node, Node(node.name, node.op, before.inputs))
    for node in graph.of_kind(Add, Mul):
        inputs = _single_pixels(edit, node)
        if inputs != node.inputs:
            edit.replace(node, Node(node.name, node.op, inputs))
    for node in graph.of_kind(Unary):
        before = edit.producer(node.inputs[0])
        if before is not None and _repeats(before, graph.shapes[before.inputs[0]]) and not edit.touched(before):
            one = f"{node.name}.one"
            edit.replace(
                node,
                Node(one, node.op, before.inputs[:1]),
                Node(node.name, before.op, (one,) * len(before.inputs)),
            )
    for node in graph.of_kind(MatMul):
        turned = edit.producer(node.inputs[1])
        if turned is None or edit.touched(turned) or not isinstance(turned.op, Permute):
            continue
        assert isinstance(node.op, MatMul)  # noqa: S101 - of this kind
        *front, rows, columns = turned.op.order
        if sorted(turned.op.order) == [*front, columns, rows]:
            edit.replace(node, Node(node.name, MatMul(not node.op.transposed), (node.inputs[0], turned.inputs[0])))
        elif rows > columns and edit.only_reader(turned.name) is node:  # as other operands, whose moves it may share
            edit.replace(turned, Node(turned.name, Permute((*front, columns, rows)), turned.inputs))
            edit.replace(node, Node(node.name, MatMul(not node.op.transposed), node.inputs))
    return edit.done()


def _single_pixels(edit: Edit, node: Node) -> tuple[str, ...]:
    """The inputs of a sum or product, where one is a repeated value that value: both repeat what is 1 long."""
    shapes = edit.graph.shapes
    for place, value in enumerate(node.inputs):
        before = edit.producer(value)
        if before is None or not _repeats(before, shapes[before.inputs[0]]):
            continue
        other = node.inputs[1 - place]
        if other != value and shapes[other] == shapes[node.name]:
            return (before.inputs[0], other) if place == 0 else (other, before.inputs[0])
    return node.inputs


def _repeats(node: Node, shape: Shape) -> bool:
    """Does it repeat a value of this `shape` along dimensions in which that is 1 long?"""
    if isinstance(node.op, Resize2d):
        return shape[2:] == (1, 1)
    return isinstance(node.op, Concat) and shape[node.op.axis] == 1 and len({*node.inputs}) == 1


def _move(op: Permute | Reshape | Slice, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What a move makes of a constant."""
    if isinstance(op, Reshape):
        return array.reshape(1, *op.shape).astype(np.float64)
    if isinstance(op, Permute):
        return array.transpose(op.order).astype(np.float64)
    cuts = zip(op.start[1:], op.stop[1:], op.step[1:], strict=True)
    return array[(slice(None), *(slice(*cut) for cut in cuts))].astype(np.float64)


def _nothing(graph: Graph, node: Node, positive: bool) -> bool:
    op, (value,) = node.op, node.inputs
    if isinstance(op, Clamp):
        low = float("-inf") if op.minimum <= 0 and positive else op.minimum
        return low == float("-inf") and op.maximum == float("inf")
    if isinstance(op, Permute):
        return op.order == tuple(range(len(op.order)))
    if isinstance(op, Slice):
        return all(k == 1 for k in op.step) and graph.shapes[node.name] == graph.shapes[value]
    return graph.shapes[node.name] == graph.shapes[value]


def _join(first: Op, second: Op) -> Op | None:
    """One op for `second` after `first`, None where there is none."""
    if isinstance(first, Reshape) and isinstance(second, Reshape):
        return second
    if isinstance(first, Permute) and isinstance(second, Permute):
        return Permute(tuple(first.order[axis] for axis in second.order))
    if isinstance(first, Clamp) and isinstance(second, Clamp):
        low = min(max(first.minimum, second.minimum), second.maximum)
        return Clamp(low, max(min(first.maximum, second.maximum), second.minimum))
    if isinstance(first, Pad) and isinstance(second, Pad) and first.lowest == second.lowest:
        before = tuple(a + b for a, b in zip(first.before, second.before, strict=True))
        return Pad(before, tuple(a + b for a, b in zip(first.after, second.after, strict=True)), first.lowest)
    if isinstance(first, Slice) and isinstance(second, Slice):
        return _slices(first, second)
    return None


def _slices(first: Slice, second: Slice) -> Slice:
    pieces = []
    for a, b, k, c, d, m in zip(
        first.start, first.stop, first.step, second.start, second.stop, second.step, strict=True
    ):
        inner = range(a, b, k)[c:d:m]
        pieces.append((inner.start, min(inner.stop, b), inner.step))
    start, stop, step = (tuple(column) for column in zip(*pieces, strict=True))
    return Slice(start, stop, step)
