"""Rules for picking rows, columns or channels by a constant index, and for rolling: slices, joined in its order."""

from __future__ import annotations

from typing import Any

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Constant, Value, aten, axis_of, with_batch
from edgeq.graph.capture.moves import reshape
from edgeq.graph.capture.padding import pieces

__all__ = ["pick"]

MOST_PIECES = 64
"""Slices of one picked value; more would cost a device more than the layers around them."""


@aten("index", anywhere=True)
def _index(call: Call) -> Value:
    given = [(axis, index) for axis, index in enumerate(call["indices"]) if index is not None]
    if len(given) != 1:
        raise call.unsupported("it picks along several dimensions at once", "index one dimension at a time")
    ((axis, index),) = given
    return _pick(call, axis, index)


@aten("index_select", anywhere=True)
def _index_select(call: Call) -> Value:
    return _pick(call, int(call["dim"]), call["index"])


def _pick(call: Call, dim: int, index: Any) -> Value:
    value = call.value()
    axis = call.axis(dim, value)
    if not isinstance(index, Constant) or index.tensor.dim() != 1 or axis == 0:
        raise call.unsupported(
            "its index is computed from the input, has several dimensions, or picks images",
            "index channels, rows or columns by a constant list",
        )
    places = index.tensor.nonzero().flatten() if index.tensor.dtype == torch.bool else index.tensor
    rows = [int(place) % value.shape[axis] for place in places.tolist()]
    return pick(call, value, axis, rows)


def pick(call: Call, value: Value, axis: int, rows: list[int]) -> Value:
    """These `rows` of `value` along `axis`, in this order."""
    if axis == 0:
        raise call.unsupported("it picks along the batch", "index channels, rows or columns")
    parts = pieces(call, value, axis, rows, "index")
    if not 0 < len(parts) <= MOST_PIECES:
        raise call.unsupported(f"its index picks {len(parts)} pieces", f"pick 1 to {MOST_PIECES} runs of neighbours")
    return parts[0] if len(parts) == 1 else call.emit(ops.Concat(axis), *parts)


@aten("roll", anywhere=True)
def _roll(call: Call) -> Value:
    """What comes out at one end goes in at the other: two slices, exchanged, per dimension."""
    value, dims = call.value(), [int(dim) for dim in call.get("dims", [])]
    if not dims:
        raise call.unsupported("it rolls the flattened tensor", "name the dimensions: torch.roll(x, shifts, dims)")
    axes = [axis_of(dim, len(value.seen)) for dim in dims]
    shifts = {axis: -int(shift) % call.shape[axis] for axis, shift in zip(axes, call["shifts"], strict=True)}
    if len(value.shape) == PICTURE and any(shifts.values()) and PICTURE - 1 not in axes:
        value = reshape(call, value, with_batch(value.shape))  # of (N, H, W, C), which is no picture to a file
    for axis, first in shifts.items():
        place, size = axis + len(value.shape) - len(call.shape), call.shape[axis]
        if place == 0:
            raise call.unsupported("it rolls the batch", "roll channels, height or width")
        if first:
            parts = pieces(call, value, place, [*range(first, size), *range(first)], "roll")
            value = call.emit(ops.Concat(place), *parts)
    return value
