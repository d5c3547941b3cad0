"""TFLite operators of the ops that move, join, select or resize."""

from __future__ import annotations

import itertools
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.emit.emitter import NHWC, Emitter, options_of
from edgeq.formats.tflite.emit.table import EMITTERS
from edgeq.formats.tflite.order import Turn
from edgeq.formats.tflite.padding import Axis, subsample
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import Shape
from edgeq.graph.ops.nearest import NEAREST_MODES
from edgeq.integer.graph import Quantization

__all__ = ["FEW", "pad", "strided_slice"]

_CODE = schema.BuiltinOperator

ONE = Quantization(np.float32(1.0), np.int32(0))  # type: ignore[arg-type]

MOST_PADDED, MOST_TRANSPOSED = 5, 8
"""Dimensions of what PAD and TRANSPOSE take."""

FEW = 8
"""Most rows of a matrix that XNNPACK transposes slower, once for each of as many places or more, than two whole ones:
784 times 2 x 58 takes 56 us, 2 x 58 x 784 and 784 x 116 together 15; 16 x 16 takes the same either way."""


def strided_slice(e: Emitter, x: int, y: int, ranges: list[range], shape: Shape) -> None:
    """`y` is what `ranges` pick of tensor `x` of `shape`, one range for each dimension."""
    begin = e.numbers([r.start for r in ranges])
    # A masked end means "to the last element" and is never read: one constant less.
    ends = sum(1 << i for i, (r, size) in enumerate(zip(ranges, shape, strict=True)) if r[-1] + r.step >= size)
    end = begin if ends == (1 << len(ranges)) - 1 else e.numbers([r[-1] + 1 for r in ranges])
    options = options_of("StridedSliceOptions", beginMask=0, endMask=ends)
    e.operator(_CODE.STRIDED_SLICE, (x, begin, end, e.numbers([r.step for r in ranges])), y, options, wide=4)


def pad(e: Emitter, x: int, padded: int, counts: list[tuple[int, int]], *, lowest: bool = False) -> None:
    if not lowest:
        e.operator(_CODE.PAD, (x, e.numbers(counts)), padded)
        return
    limit = np.finfo(np.float32).min if e.dtype == "float32" else np.iinfo(e.dtype).min
    value = np.array(limit, e.dtype)
    fill = e.constant("value", value, e.file.tensors[x].quantization)
    e.operator(_CODE.PADV2, (x, e.numbers(counts), fill), padded)


@EMITTERS.rule(ops.Concat)
def _concat(e: Emitter, node: Node, op: ops.Concat) -> None:
    rank = len(e.graph.shapes[node.name])
    names = node.inputs[::-1] if rank == 4 and op.axis >= 2 and e.layout.mirror[op.axis - 2] else node.inputs
    axis = NHWC.index(op.axis) if rank == 4 else op.axis
    e.operator(
        _CODE.CONCATENATION,
        tuple(e.index[n] for n in names),
        e.output(node),
        options_of("ConcatenationOptions", axis=axis),
    )


@EMITTERS.rule(ops.Constant)
def _constant(e: Emitter, node: Node, op: ops.Constant) -> None:
    """A tensor with content, in the file's order, under the value's own name."""
    data = np.asarray(e.graph.constants[node.inputs[0]])
    laid = data.reshape(-1)[e.layout.order(node.name)].reshape(e.file_shape(data.shape))
    e.index[node.name] = e.constant(node.name, laid, e.quantizations.get(node.name))


@EMITTERS.rule(ops.Pad)
def _pad_node(e: Emitter, node: Node, op: ops.Pad) -> None:
    counts = list(zip(op.before, op.after, strict=True))
    if len(counts) == 4:
        counts = [counts[i][::-1] if i >= 2 and e.layout.mirror[i - 2] else counts[i] for i in NHWC]
    x = e.index[node.inputs[0]]
    if len(counts) <= MOST_PADDED:
        pad(e, x, e.output(node), counts)
        return
    # Neighbouring axes without a border become one: only as many as have one, and those between, are left.
    bordered = [axis if count != (0, 0) else -1 for axis, count in enumerate(counts)]
    groups = [[axis for axis, _ in group] for _, group in itertools.groupby(enumerate(bordered), lambda each: each[1])]
    if len(groups) > MOST_PADDED:
        raise _too_many(
            f"a border around {len(groups)} dimensions", node.name, MOST_PADDED, "pad fewer of them at a time"
        )
    merged = tuple(math.prod(e.file.tensors[x].shape[axis] for axis in group) for group in groups)
    x, counts = e.shaped(x, merged, f"{node.name}/merged"), [counts[group[0]] for group in groups]
    wider = tuple(size + before + after for size, (before, after) in zip(merged, counts, strict=True))
    padded = e.like(x, f"{node.name}/padded", wider)
    pad(e, x, padded, counts)
    e.operator(_CODE.RESHAPE, (padded, e.numbers(e.shape_of(node.name))), e.output(node), None, 1)


def _too_many(what: str, where: str, most: int, instead: str) -> UnsupportedError:
    return UnsupportedError(what, where=where, why=f"TFLite's kernel takes {most}", hint=instead)


@EMITTERS.rule(ops.Slice)
def _slice(e: Emitter, node: Node, op: ops.Slice) -> None:
    shape = e.graph.shapes[node.inputs[0]]
    ranges = [range(a, b, k) for a, b, k in zip(op.start, op.stop, op.step, strict=True)]
    ranges[0] = range(shape[0])
    if len(shape) == 4:
        mirrored = [range(s - 1 - r[-1], s - r[0], r.step) for s, r in zip(shape, ranges, strict=True)]
        ranges = [mirrored[i] if i >= 2 and e.layout.mirror[i - 2] else ranges[i] for i in NHWC]
        shape = e.file_shape(shape)
        picks = [_picks(r, size) for r, size in zip(ranges, shape, strict=True)]
        strided = max(ranges[1].step, ranges[2].step) > 1
        if strided and len(ranges[3]) == shape[3] and picks[1] and picks[2]:
            _pick(e, e.index[node.inputs[0]], e.output(node), (picks[1], picks[2]), (ranges[1].step, ranges[2].step))
            return
    strided_slice(e, e.index[node.inputs[0]], e.output(node), ranges, shape)


def _picks(chosen: range, size: int) -> ops.Pair | None:
    """Kernel and position of the one that pick this range, if a window no larger than its step can."""
    kernel = subsample(Axis(size, 1, chosen.step, 1, -chosen.start, len(chosen)))
    return None if kernel is None or kernel > max(chosen.step, 1) else (kernel, chosen.start)


def _pick(e: Emitter, x: int, picked: int, picks: tuple[ops.Pair, ops.Pair], stride: ops.Pair) -> None:
    """Every stride-th pixel by a depthwise convolution with one tap of weight 1: exact, and every delegate runs it."""
    channels = e.file.tensors[x].shape[3]
    (kh, ph), (kw, pw) = picks
    kernel = np.zeros((1, kh, kw, channels), np.float32 if e.dtype == "float32" else np.int8)
    kernel[:, ph, pw] = 1
    q = e.file.tensors[x].quantization
    w = e.constant("one-hot", kernel, None if q is None else ONE)
    # XNNPACK takes no int8 depthwise convolution without a bias, and the builtin kernel crashes on one.
    zeros = np.zeros(channels, e.sums)
    b = e.constant("bias", zeros, None if q is None else Quantization(q.scale, ONE.zero_point, e.sums))
    options = options_of(
        "DepthwiseConv2DOptions",
        padding=int(schema.Padding.VALID),
        strideH=stride[0],
        strideW=stride[1],
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    e.operator(_CODE.DEPTHWISE_CONV_2D, (x, w, b), picked, options, 1 if q is None else 3, wide=5)


@EMITTERS.rule(ops.Resize2d)
def _resize(e: Emitter, node: Node, op: ops.Resize2d) -> None:
    inputs = (e.index[node.inputs[0]], e.numbers(op.size))
    if op.mode in NEAREST_MODES:
        exact = op.mode == "nearest-exact"
        options = options_of("ResizeNearestNeighborOptions", alignCorners=False, halfPixelCenters=exact)
        e.operator(_CODE.RESIZE_NEAREST_NEIGHBOR, inputs, e.output(node), options, wide=4)
        return
    options = options_of("ResizeBilinearOptions", alignCorners=op.align_corners, halfPixelCenters=not op.align_corners)
    e.operator(_CODE.RESIZE_BILINEAR, inputs, e.output(node), options, 3, wide=4)


@EMITTERS.rule(ops.Reshape, ops.Permute)
def _move(e: Emitter, node: Node, op: ops.Reshape | ops.Permute) -> None:
    """Write as many of RESHAPE, TRANSPOSE (or two), REVERSE and RESHAPE as the new order needs; mostly the first
    alone."""
    x, target = e.index[node.inputs[0]], e.shape_of(node.name)
    turn = e.layout.turns.get(node.name)
    block = None if turn is None else _blocks(turn, e.file.tensors[x].shape, target)
    if block and not e.wide:  # DEPTH_TO_SPACE knows no int16
        e.operator(_CODE.DEPTH_TO_SPACE, (x,), e.output(node), options_of("DepthToSpaceOptions", blockSize=block), 1)
        return
    if turn is not None and (turn.moves or turn.flips):
        x = e.shaped(x, turn.shape, f"{node.name}/axes")
        if turn.moves:
            x = _transpose_turn(e, x, turn, node.name)
        for axis in turn.flips:
            y = e.like(x, f"{node.name}/{axis}", e.file.tensors[x].shape)
            e.operator(_CODE.REVERSE_V2, (x, e.numbers([axis])), y, None, 1)
            x = y
    e.operator(_CODE.RESHAPE, (x, e.numbers(target)), e.output(node), None, 1)


def _transpose_turn(e: Emitter, x: int, turn: Turn, name: str) -> int:
    """Tensor `x` of the turn's shape, transposed; the elements in order, the shape as it may come out.

    A small matrix per row is transposed as two large ones: XNNPACK works in tiles of 16 and more.
    """
    first, *rest = turn.shape
    if turn.dims != (0, 2, 1) or turn.flips or first < FEW or min(rest) > FEW:
        return _transpose(e, x, turn.dims, f"{name}/transposed")
    x = _transpose(e, x, (2, 1, 0), f"{name}/columns")
    x = e.shaped(x, (math.prod(rest), first), f"{name}/rows")
    return _transpose(e, x, (1, 0), f"{name}/transposed")


def _transpose(e: Emitter, x: int, dims: tuple[int, ...], name: str) -> int:
    if len(dims) > MOST_TRANSPOSED:
        where = name.removesuffix("/transposed")
        raise _too_many(f"a permutation of {len(dims)} dimensions", where, MOST_TRANSPOSED, "permute in two steps")
    y = e.like(x, name, tuple(e.file.tensors[x].shape[d] for d in dims))
    e.operator(_CODE.TRANSPOSE, (x, e.numbers(dims)), y, options_of("TransposeOptions"))
    return y


def _blocks(turn: Turn, source: Shape, target: Shape) -> int | None:
    """The side of the squares of pixels that channels become, if that is what `turn` does."""
    if turn.dims != (0, 2, 1, 3) or turn.flips or len(source) != 4 or len(target) != 4:
        return None
    (rows, columns, side, rest), (_, height, width, channels) = turn.shape, source
    squares = (1, height * side, width * side, channels // side**2)
    return side if (rows, columns) == (height, width) and rest % side == 0 and target == squares else None
