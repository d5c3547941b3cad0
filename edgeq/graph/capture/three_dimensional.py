"""Rules for convolutions and pools over three dimensions, time among them: those of pictures, as no runtime has
integer kernels of more."""

from __future__ import annotations

import math

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.indexing import pick
from edgeq.graph.capture.moves import permute, reshape
from edgeq.graph.ops import Shape

__all__: list[str] = []

VOLUME = 5
"""Dimensions of a volume, ``(N, C, D, H, W)``."""


@aten("conv3d")
def _conv3d(call: Call) -> Value:
    """The places along one dimension become groups of channels, each with the neighbours that its kernel reads."""
    value, weight, bias = _volume(call, "input"), call.constant("weight"), call.constant("bias")
    if weight is None or isinstance(call.get("padding"), str):
        raise call.unsupported("its padding is a word", "give nn.Conv3d the padding as numbers")
    stride, dilation, padding = (_three(call, name, usual) for name, usual in _USUAL)
    kernel, groups = tuple(weight.tensor.shape[2:]), int(call.get("groups", 1))
    if kernel[1:] == stride[1:] == (1, 1) and padding[1:] == (0, 0):  # over time alone: pixels in one row
        flat = reshape(call, value, (*value.shape[:3], math.prod(value.shape[3:])))
        op = ops.Conv2d((stride[0], 1), (padding[0], padding[0], 0, 0), (dilation[0], 1), groups)
        return reshape(call, call.emit(op, flat, Constant(weight.name, weight.tensor[..., 0]), bias), call.shape)
    first = min(range(3), key=lambda axis: (kernel[axis], axis))
    order = [first, *(axis for axis in range(3) if axis != first)]
    taps, rows, columns = (kernel[axis] for axis in order)
    along = permute(call, value, (0, 1, *(axis + 2 for axis in order)))
    if padding[first]:
        around = (0, 0, padding[first], 0, 0)
        along = call.emit(ops.Pad(around, around), along)
    count = call.shape[2 + first]
    places = [n * stride[first] + tap * dilation[first] for n in range(count) for tap in range(taps)]
    _, channels, _, height, width = along.shape
    along = reshape(call, pick(call, along, 2, places), (1, channels, count, taps, height, width))
    along = permute(call, along, (0, 2, 1, 3, 4, 5))
    picture = reshape(call, along, (1, count * channels * taps, height, width))
    outputs = weight.tensor.shape[0]
    own = weight.tensor.permute(0, 1, *(axis + 2 for axis in order)).reshape(outputs, -1, rows, columns)
    kernels = Constant(weight.name, own.repeat(count, 1, 1, 1))
    offsets = None if bias is None else Constant(bias.name, bias.tensor.repeat(count))
    (_, one, other), (_, down, right) = ([given[axis] for axis in order] for given in (stride, padding))
    spread = (dilation[order[1]], dilation[order[2]])
    op = ops.Conv2d((one, other), (down, down, right, right), spread, count * groups)
    made = call.emit(op, picture, kernels, offsets)
    made = permute(call, reshape(call, made, (1, count, outputs, *made.shape[2:])), (0, 2, 1, 3, 4))
    return permute(call, made, (0, 1, *(2 + order.index(axis) for axis in range(3))))


@aten("max_pool3d")
def _max_pool3d(call: Call) -> Value:
    if _three(call, "dilation", 1) != (1, 1, 1):
        raise call.unsupported("it is dilated", "use a max pool without dilation")
    return _pool(call, ops.MaxPool2d)


@aten("avg_pool3d")
def _avg_pool3d(call: Call) -> Value:
    if any(_three(call, "padding", 0)) or call.get("ceil_mode", False) or "divisor_override" in call.arguments:
        raise call.unsupported("it has a border", "pad before, and pool without padding and ceil_mode")
    return _pool(call, ops.AvgPool2d)


@aten("adaptive_avg_pool3d", "_adaptive_avg_pool3d")
def _adaptive_avg_pool3d(call: Call) -> Value:
    value = _volume(call)
    if call.shape[2:] != (1, 1, 1):
        raise call.unsupported(f"it pools to {list(call.shape[2:])}", "pool to one value, or with avg_pool3d")
    flat = reshape(call, value, (*value.shape[:3], math.prod(value.shape[3:])))
    return reshape(call, call.emit(ops.GlobalAvgPool(), flat), call.shape)


def _pool(call: Call, pool: type[ops.MaxPool2d] | type[ops.AvgPool2d]) -> Value:
    """Over pixels, then over time: windows are boxes."""
    value = _volume(call)
    kernel = _three(call, "kernel_size", 1)
    stride = _three(call, "stride", 0)
    stride, before = (kernel if 0 in stride else stride), _three(call, "padding", 0)
    _, channels, frames, height, width = value.shape
    sides = [
        (p, max(p, (out - 1) * s + k - size - p))
        for out, s, k, size, p in zip(call.shape[2:], stride, kernel, value.shape[2:], before, strict=True)
    ]
    picture = reshape(call, value, (1, channels * frames, height, width))
    if (*kernel[1:], *stride[1:]) != (1, 1, 1, 1):
        picture = call.emit(pool((kernel[1], kernel[2]), (stride[1], stride[2]), (*sides[1], *sides[2])), picture)
    places = picture.shape[2:]
    flat = reshape(call, picture, (1, channels, frames, math.prod(places)))
    if (kernel[0], stride[0]) != (1, 1):
        flat = call.emit(pool((kernel[0], 1), (stride[0], 1), (*sides[0], 0, 0)), flat)
    return reshape(call, flat, call.shape)


def _volume(call: Call, argument: str = "self") -> Value:
    value = call.value(argument)
    if len(value.shape) != VOLUME:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "give it (N, C, D, H, W)")
    return value


_USUAL = (("stride", 1), ("dilation", 1), ("padding", 0))


def _three(call: Call, name: str, usual: int) -> Shape:
    """Torch's one-or-three numbers, as three."""
    given = call.get(name, usual)
    numbers = [given] if isinstance(given, int) else [int(number) for number in given] or [usual]
    return tuple(numbers * 3) if len(numbers) == 1 else tuple(numbers)
