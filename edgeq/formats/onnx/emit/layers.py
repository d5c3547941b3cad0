"""One emitter per op kind: what the op is called in ONNX and how its attributes read there. Same for float and integer.

Attributes at their ONNX default are left out. ONNX orders padding ``(top, left, bottom, right)``, the graph
``(top, bottom, left, right)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.context import Context
from edgeq.formats.onnx.emit.nearest import FORMS, nearest_scale
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    Add,
    AvgPool2d,
    BatchNorm,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Sides,
    Slice,
    Softmax,
)
from edgeq.graph.ops.nearest import NEAREST_MODES, nearest_pixels

__all__ = ["EMITTERS", "emit", "emits"]

_AnyOp = TypeVar("_AnyOp", bound=Op)

EMITTERS: dict[type[Op], Callable[[Context, Node, Any], None]] = {}
"""Emitter of each op kind, called with the context, the node and its op."""


def emit(context: Context, node: Node) -> None:
    """Write one node. Raises `UnsupportedError` for an op kind nobody has an emitter for."""
    emitter = EMITTERS.get(type(node.op))
    if emitter is None:
        raise UnsupportedError(f"{type(node.op).__name__} has no ONNX form here", where=node.name)
    emitter(context, node, node.op)


def emits(
    kind: type[_AnyOp],
) -> Callable[[Callable[[Context, Node, _AnyOp], None]], Callable[[Context, Node, _AnyOp], None]]:
    def register(emitter: Callable[[Context, Node, _AnyOp], None]) -> Callable[[Context, Node, _AnyOp], None]:
        EMITTERS[kind] = emitter
        return emitter

    return register


def _pads(padding: Sides) -> list[int] | None:
    top, bottom, left, right = padding
    return [top, left, bottom, right] if any(padding) else None


def _unless_ones(numbers: tuple[int, ...]) -> list[int] | None:
    return list(numbers) if any(number != 1 for number in numbers) else None


@emits(Conv2d)
def _conv(context: Context, node: Node, op: Conv2d) -> None:
    context.convolve(
        node,
        clamp=op.activation,
        strides=_unless_ones(op.stride),
        pads=_pads(op.padding),
        dilations=_unless_ones(op.dilation),
        group=op.groups if op.groups > 1 else None,
    )


@emits(Linear)
def _linear(context: Context, node: Node, op: Linear) -> None:
    bias = [context.bias(node)] if len(node.inputs) > 2 else []
    inputs = [context.real(node.inputs[0]), context.parameter(node.inputs[1]), *bias]
    context.compute(node, "Gemm", inputs, clamp=op.activation, transB=1)


@emits(BatchNorm)
def _batch_norm(context: Context, node: Node, op: BatchNorm) -> None:
    inputs = [context.real(node.inputs[0]), *(context.parameter(name) for name in node.inputs[1:])]
    context.compute(node, "BatchNormalization", inputs, epsilon=op.eps)


@emits(Add)
def _add(context: Context, node: Node, op: Add) -> None:
    context.compute(node, "Add", [context.real(name) for name in node.inputs], clamp=op.activation)


@emits(LeakyReLU)
def _leaky_relu(context: Context, node: Node, op: LeakyReLU) -> None:
    context.compute(node, "LeakyRelu", [context.real(node.inputs[0])], alpha=float(op.slope))


@emits(Softmax)
def _softmax(context: Context, node: Node, op: Softmax) -> None:
    if context.shape(node.name)[op.axis] == 1:
        context.fill(node, 1.0)  # onnxruntime's uint8 kernel makes 0 of a single value: 256 of 256 wraps
        return
    context.compute(node, "Softmax", [context.real(node.inputs[0])], axis=op.axis)


@emits(GlobalAvgPool)
def _global_avg_pool(context: Context, node: Node, op: GlobalAvgPool) -> None:
    # Not ReduceMean, which onnxruntime has no integer kernel for.
    context.compute(node, "GlobalAveragePool", [context.real(node.inputs[0])])


@emits(AvgPool2d)
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


@emits(MaxPool2d)
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


@emits(Clamp)
def _clamp(context: Context, node: Node, op: Clamp) -> None:
    context.clamp(node, op)


@emits(Concat)
def _concat(context: Context, node: Node, op: Concat) -> None:
    context.move(node, "Concat", list(node.inputs), [], axis=op.axis)


@emits(Pad)
def _pad(context: Context, node: Node, op: Pad) -> None:
    # All dimensions listed: given `axes`, onnxruntime's change of layout leaves two Gather beside the Pad. But without,
    # it makes zeros before a pool the pool's own padding: those of a max pool are minus infinity, and a pool that has
    # padding already counts all of it or none.
    extra = [context.indices(*op.before, *op.after), context.zero(node.name)]
    if any(isinstance(reader.op, (AvgPool2d, MaxPool2d)) for reader in context.readers(node.name)):
        extra.append(context.indices(*range(len(op.before))))
    context.move(node, "Pad", [node.inputs[0]], extra)


@emits(Slice)
def _slice(context: Context, node: Node, op: Slice) -> None:
    # The batch is left alone and only dimensions that are really cut are named: works at any batch, and is shorter.
    sizes = context.shape(node.inputs[0])
    cut = [
        axis for axis in range(1, len(sizes)) if (op.start[axis], op.stop[axis], op.step[axis]) != (0, sizes[axis], 1)
    ] or [1]
    extra = [context.indices(*(numbers[axis] for axis in cut)) for numbers in (op.start, op.stop)]
    extra += [context.indices(*cut), context.indices(*(op.step[axis] for axis in cut))]
    context.move(node, "Slice", [node.inputs[0]], extra)


@emits(Permute)
def _permute(context: Context, node: Node, op: Permute) -> None:
    context.move(node, "Transpose", [node.inputs[0]], [], perm=list(op.order))


@emits(Resize2d)
def _resize(context: Context, node: Node, op: Resize2d) -> None:
    # On the integers themselves: onnxruntime has kernels for them, and would drop a Q/DQ pair of one scale anyway.
    # Its bilinear one cuts fractions off where TFLite rounds them, so it may be a step below.
    before = context.shape(node.inputs[0])[2:]
    if op.mode in NEAREST_MODES:
        _resize_nearest(context, node, op)
        return
    scales = [_scale(size, out) for size, out in zip(before, op.size, strict=True)]
    corners = "align_corners" if op.align_corners else "half_pixel"
    context.move(node, "Resize", [node.inputs[0]], _scales(context, scales),
                 mode="linear", coordinate_transformation_mode=corners)  # fmt: skip


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


@emits(Reshape)
def _reshape(context: Context, node: Node, op: Reshape) -> None:
    if len(op.shape) == 1:
        context.move(node, "Flatten", [node.inputs[0]], [])
    else:
        # 0 copies the batch, whatever it is.
        context.move(node, "Reshape", [node.inputs[0]], [context.indices(0, *op.shape)])
