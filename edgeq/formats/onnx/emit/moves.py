"""ONNX nodes of the ops that move, select or resize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.formats.onnx.context import Context
from edgeq.formats.onnx.emit.nearest import FORMS, nearest_scale
from edgeq.formats.onnx.emit.table import EMITTERS
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    AvgPool2d,
    Concat,
    Constant,
    MaxPool2d,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Slice,
)
from edgeq.graph.ops.nearest import NEAREST_MODES, nearest_pixels

__all__: list[str] = []


@EMITTERS.rule(Concat)
def _concat(context: Context, node: Node, op: Concat) -> None:
    context.move(node, "Concat", list(node.inputs), [], axis=op.axis)


@EMITTERS.rule(Constant)
def _constant(context: Context, node: Node, op: Constant) -> None:
    """A copy of the constant, which onnxruntime leaves out; for a Concat, which repeats nothing, one for each image."""
    tensor = context.movable(node.inputs[0])
    if any(isinstance(reader.op, Concat) for reader in context.readers(node.name)):
        ones = context.indices(*[1] * (len(context.shape(node.name)) - 1))
        shape = context.builder.node("Concat", [context.batch(), ones], axis=0)
        context.move(node, "Expand", [], [tensor, shape])
    else:
        context.move(node, "Identity", [], [tensor])


@EMITTERS.rule(Pad)
def _pad(context: Context, node: Node, op: Pad) -> None:
    # All dimensions listed: given `axes`, onnxruntime's change of layout leaves two Gather beside the Pad. But without,
    # it makes zeros before a pool the pool's own padding: those of a max pool are minus infinity, and a pool that has
    # padding already counts all of it or none.
    extra = [context.indices(*op.before, *op.after), context.zero(node.name)]
    if any(isinstance(reader.op, (AvgPool2d, MaxPool2d)) for reader in context.readers(node.name)):
        extra.append(context.indices(*range(len(op.before))))
    context.move(node, "Pad", [node.inputs[0]], extra)


@EMITTERS.rule(Slice)
def _slice(context: Context, node: Node, op: Slice) -> None:
    # The batch is left alone and only dimensions that are really cut are named: works at any batch, and is shorter.
    sizes = context.shape(node.inputs[0])
    cut = [
        axis for axis in range(1, len(sizes)) if (op.start[axis], op.stop[axis], op.step[axis]) != (0, sizes[axis], 1)
    ] or [1]
    extra = [context.indices(*(numbers[axis] for axis in cut)) for numbers in (op.start, op.stop)]
    extra += [context.indices(*cut), context.indices(*(op.step[axis] for axis in cut))]
    context.move(node, "Slice", [node.inputs[0]], extra)


@EMITTERS.rule(Permute)
def _permute(context: Context, node: Node, op: Permute) -> None:
    context.move(node, "Transpose", [node.inputs[0]], [], perm=list(op.order))


@EMITTERS.rule(Resize2d)
def _resize(context: Context, node: Node, op: Resize2d) -> None:
    # On the integers themselves: onnxruntime has kernels for them, and would drop a Q/DQ pair of one scale anyway.
    # Its bilinear one cuts fractions off where TFLite rounds them, so it may be a step below.
    before = context.shape(node.inputs[0])[2:]
    if op.mode in NEAREST_MODES:
        _resize_nearest(context, node, op)
        return
    scales = [_scale(size, out) for size, out in zip(before, op.size, strict=True)]
    corners = "align_corners" if op.align_corners else "half_pixel"
    context.move(
        node,
        "Resize",
        [node.inputs[0]],
        _scales(context, scales),
        mode="linear",
        coordinate_transformation_mode=corners,
    )


def _resize_nearest(context: Context, node: Node, op: Resize2d) -> None:
    """A Resize where onnxruntime's arithmetic takes torch's pixels, else those pixels by name, axis by axis."""
    (value,) = node.inputs
    pairs = list(zip(context.shape(value)[2:], op.size, strict=True))
    scales = [nearest_scale(size, out, op.mode) for size, out in pairs]
    known = [scale for scale in scales if scale is not None]
    if len(known) == len(scales):
        context.move(node, "Resize", [value], _scales(context, known), mode="nearest", **FORMS[op.mode])
        return
    lists = {axis: nearest_pixels(*pair, op.mode) for axis, pair in enumerate(pairs, 2) if pair[0] != pair[1]}
    *first, last = lists
    source = None
    for axis in first:
        pixels = context.builder.constant(lists[axis])
        source = context.builder.node("Gather", [context.movable(value), pixels], axis=axis)
    context.move(node, "Gather", [value], [context.builder.constant(lists[last])], source=source, axis=last)


def _scales(context: Context, scales: Sequence[np.float32]) -> list[str]:
    """A Resize's inputs behind its first: no region, and a factor for each dimension."""
    return ["", context.builder.constant(np.array([1, 1, *scales], np.float32))]


def _scale(size: int, out: int) -> np.float32:
    """The float32 factor that makes `out` pixels of `size`: sizes would name the batch too. ONNX rounds down."""
    scale = np.float32(out / size)
    return scale if float(scale) * size >= out else np.nextafter(scale, np.float32(np.inf))


@EMITTERS.rule(Reshape)
def _reshape(context: Context, node: Node, op: Reshape) -> None:
    if len(op.shape) == 1:
        context.move(node, "Flatten", [node.inputs[0]], [])
    else:
        # 0 copies the batch, whatever it is.
        context.move(node, "Reshape", [node.inputs[0]], [context.indices(0, *op.shape)])
