"""Rules for calls that give values several times or in another order: stacks, repetitions, flips and patches."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Constant, Value, aten, axis_of, own_shape, with_batch
from edgeq.graph.capture.indexing import pick
from edgeq.graph.capture.moves import permute, reshape

__all__ = ["expand"]

MOST_COPIES = 4096
"""Copies of one value joined. Most are never made: products and sums repeat by themselves."""


@aten("stack", anywhere=True)
def _stack(call: Call) -> Value:
    """Joined along a new dimension, behind the batch. It remembers its parts: many are only summed up again."""
    place = axis_of(int(call.get("dim", 0)), len(call.shape))
    whole = with_batch(call.shape) if place == 0 else own_shape(call.shape)
    axis = place + len(whole) - len(call.shape)
    alone = (*whole[:axis], 1, *whole[axis + 1 :])
    columns = [_shaped(call, given, alone) for given in call["tensors"]]
    joined = columns[0] if len(columns) == 1 else call.emit(ops.Concat(axis), *columns)
    parts = tuple(given for given in call["tensors"] if isinstance(given, Value))
    alike = len(parts) == len(columns) and len({part.shape for part in parts}) == 1
    return replace(joined, stacked=(axis, parts if alike else ()))


def _shaped(call: Call, given: Value | Constant, shape: ops.Shape) -> Value:
    if isinstance(given, Value):
        return reshape(call, given, shape)
    return call.operand(Constant(given.name, given.tensor.reshape(shape)), len(shape))


@aten("expand", "expand_as", "expand_copy", anywhere=True)
def _expand(call: Call) -> Value:
    """Products and sums that repeat it themselves read the value that is not repeated (`simplify`)."""
    return expand(call, call.activation(call.get("self", call.get("input"))), call.shape)


def expand(call: Call, value: Value, seen: ops.Shape) -> Value:
    """`value` repeated along its dimensions of size 1 until torch sees it as `seen`, as `torch.expand` does."""
    if value.seen == seen:
        return value
    whole = own_shape(seen)
    value = reshape(call, value, (1,) * (len(whole) - len(value.seen)) + value.seen)
    if len(whole) == PICTURE and value.shape[2:] == (1, 1) and whole[2:] != (1, 1):
        value = call.emit(ops.Resize2d((whole[2], whole[3]), "nearest"), value)
    counts = [n if size == 1 else 1 for n, size in zip(whole, value.shape, strict=True)]
    return replace(_copies(call, value, counts), seen=seen)


@aten("repeat", "tile", anywhere=True)
def _repeat(call: Call) -> Value:
    """The numbers of torch count dimensions from the last; one of the batch makes that a dimension as any other."""
    value = call.value()
    counts = [int(count) for count in call.get("repeats", call.get("dims"))]
    counts = [1] * (len(value.seen) - len(counts)) + counts
    seen = (1,) * (len(counts) - len(value.seen)) + value.seen
    whole = own_shape(seen) if counts[0] == 1 else with_batch(seen)
    front = len(whole) - len(seen)
    return replace(_copies(call, reshape(call, value, whole), [1] * front + counts), seen=call.shape)


def _copies(call: Call, value: Value, counts: list[int]) -> Value:
    if math.prod(counts) > MOST_COPIES:
        raise call.unsupported(
            f"it repeats {list(value.shape)} {math.prod(counts)} times",
            "leave it out before a product or a sum, which repeat by themselves",
        )
    for axis, count in enumerate(counts):
        if count > 1:
            value = call.emit(ops.Concat(axis), *[value] * count, label="repeat")
    return value


@aten("repeat_interleave", anywhere=True)
def _repeat_interleave(call: Call) -> Value:
    """Copies side by side: along a new dimension behind the one that is repeated."""
    value, count = call.value(), call.get("repeats")
    if not isinstance(count, int) or call.get("dim") is None:
        raise call.unsupported("it repeats each a number of times of its own", "repeat all the same number of times")
    axis = call.axis(int(call["dim"]), value)
    apart = (*value.shape[: axis + 1], 1, *value.shape[axis + 1 :])
    counts = [1] * (axis + 1) + [count] + [1] * (len(value.shape) - axis - 1)
    return reshape(call, _copies(call, reshape(call, value, apart), counts), own_shape(call.shape))


@aten("flip", "fliplr", "flipud", anywhere=True)
def _flip(call: Call) -> Value:
    value = call.value()
    axes = {"fliplr": [1], "flipud": [0]}.get(call.name.split(".")[1], call.get("dims"))
    for axis in (call.axis(int(dim), value) for dim in axes):
        if value.shape[axis] > 1:
            value = pick(call, value, axis, list(range(value.shape[axis]))[::-1])
    return value


@aten("glu", anywhere=True)
def _glu(call: Call) -> Value:
    """One half times the sigmoid of the other."""
    value = call.value()
    axis = call.axis(int(call.get("dim", -1)), value)
    half, halves = value.shape[axis] // 2, []
    for first in (0, half):
        start, stop = [0] * len(value.shape), list(value.shape)
        start[axis], stop[axis] = first, first + half
        halves.append(call.emit(ops.Slice(tuple(start), tuple(stop), (1,) * len(start)), value, label="half"))
    gate = call.emit(ops.Sigmoid(), halves[1], label="gate")
    return call.emit(ops.Mul(), halves[0], gate, label="glu")


@aten("unfold", anywhere=True)
def _unfold(call: Call) -> Value:
    """Windows along one dimension: its rows, those in two windows twice, as a dimension of windows and one of rows,
    the latter brought to the end."""
    value, size, step = call.value(), int(call["size"]), int(call["step"])
    axis = call.axis(int(call["dimension"]), value)
    if axis == 0:
        raise call.unsupported("it unfolds the batch", "unfold channels, rows or columns")
    starts = range(0, value.shape[axis] - size + 1, step)
    rows = pick(call, value, axis, [start + row for start in starts for row in range(size)])
    windows = reshape(call, rows, (*value.shape[:axis], len(starts), size, *value.shape[axis + 1 :]))
    order = [place for place in range(len(windows.shape)) if place != axis + 1]
    return reshape(call, permute(call, windows, (*order, axis + 1)), own_shape(call.shape))


@aten("im2col")
def _im2col(call: Call) -> Value:
    """`nn.Unfold`: a depthwise convolution with a filter per place in the window, each of which copies one pixel."""
    value = call.value()
    if len(value.shape) != 4:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "unfold (N, C, H, W)")
    channels, kernel = value.shape[1], call.pair("kernel_size")
    taps = math.prod(kernel)
    weight = torch.eye(taps).reshape(taps, 1, *kernel).repeat(channels, 1, 1, 1)
    (top, left), dilation = call.pair("padding", (0, 0)), call.pair("dilation", (1, 1))
    conv = ops.Conv2d(call.pair("stride", (1, 1)), (top, top, left, left), dilation, channels)
    patches = call.emit(conv, value, Constant("unfold.weight", weight), label="unfold")
    return reshape(call, patches, call.shape)


@aten("col2im")
def _col2im(call: Call) -> Value:
    """`nn.Fold`: a transposed convolution with a filter per place in the window, each of which writes one pixel."""
    value, kernel = call.value(), call.pair("kernel_size")
    if len(value.shape) != 3 or call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated, or has no batch", "fold (N, C * kernel, L) without dilation")
    taps, stride, (top, left) = math.prod(kernel), call.pair("stride", (1, 1)), call.pair("padding", (0, 0))
    (height, width), channels = call.shape[-2:], value.shape[1] // taps
    rows = (height + 2 * top - kernel[0]) // stride[0] + 1
    columns = (width + 2 * left - kernel[1]) // stride[1] + 1
    cut = [
        (count - 1) * step + size - out
        for count, step, size, out in (
            (rows, stride[0], kernel[0], height),
            (columns, stride[1], kernel[1], width),
        )
    ]
    weight = torch.eye(taps).reshape(1, taps, *kernel).repeat(channels, 1, 1, 1)
    op = ops.ConvTranspose2d(stride, (top, cut[0] - top, left, cut[1] - left), channels)
    patches = reshape(call, value, (1, value.shape[1], rows, columns))
    return call.emit(op, patches, Constant("fold.weight", weight), label="fold")
