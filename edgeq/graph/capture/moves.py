"""Rules for ATen calls that only move, select or rename values, or do nothing in evaluation mode."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Constant, Value, aten, axis_of, own_shape, with_batch
from edgeq.graph.capture.padding import MODES, add_border, add_filled
from edgeq.graph.ops import Shape
from edgeq.graph.ops.nearest import is_certain, nearest_pixels

__all__ = ["permute", "permute_seen", "reshape", "resize"]


# Values that pass through untouched. In evaluation mode dropout is one of them.
@aten("contiguous", "detach", "detach_", "clone", "alias", "lift_fresh", "lift_fresh_copy", "positive", anywhere=True)
def _identity(call: Call) -> Value:
    return call.arguments["self"]  # type: ignore[no-any-return]


@aten("dropout", "dropout_", "feature_dropout", "feature_dropout_", "alpha_dropout", "native_dropout", anywhere=True)
def _dropout(call: Call) -> Value:
    if call.get("train", False):
        raise call.unsupported("the network was exported in training mode", "call model.eval() before exporting")
    return call["self" if "self" in call.arguments else "input"]  # type: ignore[no-any-return]


@aten("to", "_to_copy", "type_as", anywhere=True)
def _cast(call: Call) -> Value:
    dtype = str(call.get("dtype", "torch.float32"))
    if dtype not in ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64"):
        raise call.unsupported(f"it casts to {dtype}", "keep the network in float32")
    return call["self"]  # type: ignore[no-any-return]


@aten("cat", "concat", "concatenate", anywhere=True)
def _cat(call: Call) -> Value:
    full = [given for given in call["tensors"] if not isinstance(given, Constant) or given.tensor.numel()]
    rank = max(len(given.shape) for given in full if isinstance(given, Value))
    values = [call.operand(given, rank) for given in full]
    axis = axis_of(int(call.get("dim", 0)), len(call.shape)) + rank - len(call.shape)
    if axis == 0:
        raise call.unsupported("it joins along the batch", "join channels: torch.cat(values, dim=1)")
    return values[0] if len(values) == 1 else call.emit(ops.Concat(axis), *values)


@aten("flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "view_copy", anywhere=True)
@aten("_reshape_alias", "unflatten", "atleast_1d", "atleast_2d", "atleast_3d", anywhere=True)
def _reshape(call: Call) -> Value:
    """A shape of torch's that begins with 1 has the batch there; any other gets it in front."""
    value, seen = call["self"], call.shape
    if not isinstance(value, Value):
        raise call.unsupported("it reshapes a constant")
    if value.seen == seen or not seen:
        return replace(value, seen=seen)
    return reshape(call, value, own_shape(seen))


@aten("permute", "transpose", "t", "numpy_T", "swapaxes", "movedim", anywhere=True)
def _permute(call: Call) -> Value:
    value = call.value()
    return permute_seen(call, value, _order(call, len(value.seen)))


def permute_seen(call: Call, value: Value, order: Shape) -> Value:
    """`value` with the dimensions that torch sees in another order, the batch among them or not."""
    if not value.offset and (order[0] != 0 or order in MATRICES):
        value = reshape(call, value, with_batch(value.seen))  # matrices are moved, or the batch is: this is no picture
    front = len(value.shape) - len(order)
    return permute(call, value, (*range(front), *(axis + front for axis in order)))


MATRICES = ((0, 2, 1, 3), (0, 1, 3, 2))
"""Orders that take heads in front of tokens, or turn their matrices. Pictures are never moved so."""


def permute(call: Call, value: Value, order: Shape) -> Value:
    """A permutation of `value.shape` that moves only dimensions of 1 is a reshape; any other reorders memory."""
    moved = [axis for axis in order if value.shape[axis] > 1]
    if order[0] == 0 and moved == sorted(moved):
        return reshape(call, value, tuple(value.shape[axis] for axis in order))
    if order[0] != 0:
        raise call.unsupported("it moves the batch dimension", "keep the batch in front")
    return call.emit(ops.Permute(order), value)


def _order(call: Call, rank: int) -> Shape:
    """The input dimension that each dimension of the result comes from."""
    if "dims" in call.arguments:
        return tuple(axis_of(int(axis), rank) for axis in call["dims"])
    order = list(range(rank))
    if "source" in call.arguments:
        pairs = zip(_numbers(call["source"]), _numbers(call["destination"]), strict=True)
        places = {axis_of(to, rank): axis_of(source, rank) for source, to in pairs}
        rest = iter([axis for axis in order if axis not in places.values()])
        return tuple(places[place] if place in places else next(rest) for place in order)
    if "transpose" in call.name or "swapaxes" in call.name:
        names = ("dim0", "dim1") if "dim0" in call.arguments else ("axis0", "axis1")
        one, other = (axis_of(int(call[name]), rank) for name in names)
    else:  # t and numpy_T reverse what are at most two dimensions here
        if rank > 2:
            raise call.unsupported("it reverses all dimensions", "name them: x.permute(0, 2, 3, 1)")
        one, other = 0, rank - 1
    order[one], order[other] = order[other], order[one]
    return tuple(order)


def _numbers(given: int | list[int]) -> list[int]:
    return [given] if isinstance(given, int) else list(given)


_RESIZES = {
    "upsample_bilinear2d": "bilinear",
    "upsample_nearest2d": "nearest",
    "_upsample_nearest_exact2d": "nearest-exact",
}


@aten(*_RESIZES)
def resize(call: Call) -> Value:
    """Torch computes positions with the scale it was given, and with the sizes' quotient only where it was given none;
    every file knows the sizes alone."""
    value = call.activation(call.get("input", call.get("self")))
    size = (call.shape[2], call.shape[3])
    mode = _RESIZES[call.name.split(".")[1]]
    scales = call.get("scale_factors") or [call.get("scales_h"), call.get("scales_w")]
    for scale, before, after in zip(scales, value.shape[2:], size, strict=True):
        if scale is not None and not _scale_fits(float(scale), before, after, mode, call.get("align_corners", False)):
            raise call.unsupported(
                f"{before} x {scale} is no whole number of pixels",
                "give F.interpolate a size, a scale that fits, or recompute_scale_factor=True",
            )
    if size == value.shape[2:]:
        return value
    for before, after in zip(value.shape[2:], size, strict=True):
        if mode != "bilinear" and not is_certain(before, after, mode):
            raise call.unsupported(
                f"from {before} to {after} pixels torch takes others in another memory layout", 'use mode="nearest"'
            )
    return call.emit(ops.Resize2d(size, mode, mode == "bilinear" and bool(call.get("align_corners", False))), value)


def _scale_fits(scale: float, before: int, after: int, mode: str, align_corners: bool) -> bool:
    """Whether resizing `before` pixels by `scale` is resizing them to `after`."""
    if mode == "bilinear":
        return align_corners or scale * before == after
    return bool(np.array_equal(nearest_pixels(before, after, mode, 1 / scale), nearest_pixels(before, after, mode)))


def reshape(call: Call, value: Value, shape: Shape) -> Value:
    """`value` under another shape of its own, the batch in front."""
    if value.shape == shape:
        return replace(value, seen=shape)
    label = "flatten" if len(shape) == 2 else "reshape"
    return replace(call.emit(ops.Reshape(shape[1:]), value, label=label), seen=shape)


@aten("pad", "constant_pad_nd", anywhere=True)
def _pad(call: Call) -> Value:
    value, given = call.value(), [int(count) for count in call["pad"]]
    mode = call.get("mode", "constant")
    if mode in MODES:
        return add_border(call, value, given, mode)
    filling = float(call.get("value", 0.0))
    if mode != "constant" or not (math.isfinite(filling) or filling == -math.inf):
        raise call.unsupported(f"mode {mode!r}, value {call.get('value', 0)}", "pad with numbers, or repeat the border")
    free = [0] * (len(value.shape) - len(given) // 2)
    before, after = (*free, *given[0::2][::-1]), (*free, *given[1::2][::-1])  # torch lists the last dimension first
    if before[0] or after[0]:
        raise call.unsupported("it pads the batch", "pad channels, height or width")
    if min(given, default=0) < 0:  # a negative count cuts
        start = tuple(max(0, -b) for b in before)
        stop = tuple(s - max(0, -a) for s, a in zip(value.shape, after, strict=True))
        value = call.emit(ops.Slice(start, stop, (1,) * len(start)), value)
        before, after = tuple(max(0, b) for b in before), tuple(max(0, a) for a in after)
    if filling not in (0.0, -math.inf):
        return add_filled(call, value, before, after, filling)
    return call.emit(ops.Pad(before, after, filling < 0), value) if any((*before, *after)) else value


@aten("slice", "narrow", anywhere=True)
def _slice(call: Call) -> Value:
    value = call.value()
    axis = call.axis(int(call.get("dim", 0)), value)
    size, start, length = value.shape[axis], int(call.get("start", 0)), call.get("length")
    stop = size if length is None else start + int(length)
    stop = int(call.get("end", stop))
    first, last, step = slice(start, stop, int(call.get("step", 1))).indices(size)
    return _cut(call, value, axis, first, last, step)


@aten("select", anywhere=True)
def _select(call: Call) -> Value:
    value = call.value()
    axis = call.axis(int(call["dim"]), value)
    index = int(call["index"]) % value.shape[axis]
    return _without(call, _cut(call, value, axis, index, index + 1, 1), axis, call.shape)


@aten("unbind", anywhere=True)
def _unbind(call: Call) -> tuple[Value, ...]:
    value = call.value()
    axis = call.axis(int(call.get("dim", 0)), value)
    parts = (_cut(call, value, axis, place, place + 1, 1) for place in range(value.shape[axis]))
    return tuple(_without(call, part, axis, shape) for part, shape in zip(parts, call.shapes, strict=True))


def _without(call: Call, value: Value, axis: int, seen: Shape) -> Value:
    """`value`, which torch sees as `seen`, without its dimension of 1 at `axis`. Heads stay no picture."""
    if not seen:
        return replace(value, seen=seen)
    shape = (*value.shape[:axis], *value.shape[axis + 1 :])
    matrices = value.offset and len(seen) == PICTURE
    plain = seen if seen[0] == 1 and len(seen) > 1 and not matrices else with_batch(seen)
    return reshape(call, value, plain if axis == 0 or len(shape) == PICTURE or shape[0] != 1 else shape)


@aten("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", anywhere=True)
def _split(call: Call) -> tuple[Value, ...]:
    value = call.value()
    axis = call.axis(int(call.get("dim", 0)), value)
    cut = axis - value.offset
    ends = list(itertools.accumulate(shape[cut] for shape in call.shapes))
    starts = [0, *ends[:-1]]
    return tuple(_cut(call, value, axis, first, last, 1) for first, last in zip(starts, ends, strict=True))


def _cut(call: Call, value: Value, axis: int, first: int, last: int, step: int) -> Value:
    if (first, last, step) == (0, value.shape[axis], 1):
        return value
    if axis == 0:
        raise call.unsupported("it slices the batch", "slice channels, height or width")
    ranges = [(0, size, 1) for size in value.shape]
    ranges[axis] = (first, last, step)
    start, stop, steps = (tuple(column) for column in zip(*ranges, strict=True))
    return call.emit(ops.Slice(start, stop, steps), value)
