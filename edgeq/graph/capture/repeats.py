"""Rules for calls that give values several times or in another order: stacks, repetitions, flips and patches."""

from __future__ import annotations

import math

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten, axis_of
from edgeq.graph.capture.indexing import pick
from edgeq.graph.capture.moves import reshape

__all__ = ["expand"]

MOST_COPIES = 4096
"""Copies of one value joined. Most are never made: products and sums repeat by themselves."""


@aten("stack")
def _stack(call: Call) -> Value:
    axis = axis_of(int(call.get("dim", 0)), len(call.shape))
    if axis == 0:
        raise call.unsupported("it stacks along the batch", "stack along another dimension: torch.stack(values, dim=1)")
    shape = (*call.shape[:axis], 1, *call.shape[axis + 1 :])
    parts = [reshape(call, call.activation(given), shape) for given in call["tensors"]]
    return parts[0] if len(parts) == 1 else call.emit(ops.Concat(axis), *parts)


@aten("expand", "expand_as", "expand_copy")
def _expand(call: Call) -> Value:
    """Products and sums that repeat it themselves read the value that is not repeated (`simplify`)."""
    return expand(call, call.activation(call.get("self", call.get("input"))), call.shape)


def expand(call: Call, value: Value, shape: ops.Shape) -> Value:
    """`value` repeated along its dimensions of size 1, as `torch.expand` does."""
    if value.shape == shape:
        return value
    value = reshape(call, value, (1,) * (len(shape) - len(value.shape)) + value.shape)
    if shape[0] != 1:
        raise call.unsupported("it repeats the batch", "keep a batch of 1")
    if len(shape) == 4 and value.shape[2:] == (1, 1) and shape[2:] != (1, 1):
        value = call.emit(ops.Resize2d((shape[2], shape[3]), "nearest"), value)
    return _copies(call, value, [n if size == 1 else 1 for n, size in zip(shape, value.shape, strict=True)])


@aten("repeat", "tile")
def _repeat(call: Call) -> Value:
    value = call.value()
    counts = [int(count) for count in call.get("repeats", call.get("dims"))]
    counts = [1] * (len(value.shape) - len(counts)) + counts
    value = reshape(call, value, (1,) * (len(counts) - len(value.shape)) + value.shape)
    if counts[0] != 1:
        raise call.unsupported("it repeats the batch", "repeat channels, rows or columns")
    return _copies(call, value, counts)


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


@aten("repeat_interleave")
def _repeat_interleave(call: Call) -> Value:
    """Copies side by side: along a new dimension behind the one that is repeated."""
    value, count = call.value(), call.get("repeats")
    if not isinstance(count, int) or call.get("dim") is None:
        raise call.unsupported("it repeats each a number of times of its own", "repeat all the same number of times")
    axis = axis_of(int(call["dim"]), len(value.shape))
    apart = (*value.shape[: axis + 1], 1, *value.shape[axis + 1 :])
    counts = [1] * (axis + 1) + [count] + [1] * (len(value.shape) - axis - 1)
    return reshape(call, _copies(call, reshape(call, value, apart), counts), call.shape)


@aten("flip", "fliplr", "flipud")
def _flip(call: Call) -> Value:
    value = call.value()
    axes = {"fliplr": [1], "flipud": [0]}.get(call.name.split(".")[1], call.get("dims"))
    for axis in (axis_of(int(dim), len(value.shape)) for dim in axes):
        if value.shape[axis] > 1:
            value = pick(call, value, axis, list(range(value.shape[axis]))[::-1])
    return value


@aten("glu")
def _glu(call: Call) -> Value:
    """One half times the sigmoid of the other."""
    value = call.value()
    axis = axis_of(int(call.get("dim", -1)), len(value.shape))
    half, halves = value.shape[axis] // 2, []
    for first in (0, half):
        start, stop = [0] * len(value.shape), list(value.shape)
        start[axis], stop[axis] = first, first + half
        halves.append(call.emit(ops.Slice(tuple(start), tuple(stop), (1,) * len(start)), value, label="half"))
    gate = call.emit(ops.Sigmoid(), halves[1], label="gate")
    return call.emit(ops.Mul(), halves[0], gate, label="glu")


@aten("unfold")
def _unfold(call: Call) -> Value:
    """Windows that do not overlap, along the last dimension: they are that dimension in two."""
    value, size = call.value(), int(call["size"])
    axis = axis_of(int(call["dimension"]), len(value.shape))
    if axis != len(value.shape) - 1 or int(call["step"]) != size or value.shape[axis] % size:
        raise call.unsupported("its windows overlap or leave a rest", "unfold the last dimension into equal parts")
    return reshape(call, value, call.shape)


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
