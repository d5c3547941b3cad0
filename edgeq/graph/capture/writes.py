"""Rules for values written into others, and for choices by a constant mask: parts joined, or products with the mask."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten, own_shape
from edgeq.graph.capture.attention import FARTHEST
from edgeq.graph.capture.elementwise import Operand, product, sum_of
from edgeq.graph.capture.indexing import pick
from edgeq.graph.capture.moves import reshape
from edgeq.graph.capture.repeats import expand

__all__: list[str] = []


@aten("copy", anywhere=True)
def _copy(call: Call) -> Value:
    """All of a tensor is written: what it held is gone."""
    return expand(call, call.activation(call["src"]), call.shape)


@aten("slice_scatter", anywhere=True)
def _slice_scatter(call: Call) -> Value:
    dim = int(call.get("dim", 0))
    size = call.shape[dim]
    start, stop, step = slice(call.get("start"), call.get("end"), call.get("step", 1)).indices(size)
    if step != 1:
        raise call.unsupported(f"it writes every row {step} apart", "build a new tensor instead of writing into one")
    return _written(call, dim, start, stop)


@aten("select_scatter", anywhere=True)
def _select_scatter(call: Call) -> Value:
    dim = int(call["dim"])
    start = int(call["index"]) % call.shape[dim]
    return _written(call, dim, start, start + 1)


def _written(call: Call, dim: int, start: int, stop: int) -> Value:
    """Rows `start` to `stop` are new; those before and after stay."""
    whole = own_shape(call.shape)
    axis = dim % len(call.shape) + len(whole) - len(call.shape)
    if axis == 0:
        raise call.unsupported("it writes into the batch", "build a new tensor instead of writing into one")
    old, new = (_as_value(call, call[name]) for name in ("self", "src"))
    old, new = reshape(call, old, whole), reshape(call, new, (*whole[:axis], stop - start, *whole[axis + 1 :]))
    kept = [list(range(start)), list(range(stop, whole[axis]))]
    before, after = ([pick(call, old, axis, rows)] if rows else [] for rows in kept)
    parts = [*before, new, *after]
    made = parts[0] if len(parts) == 1 else call.emit(ops.Concat(axis), *parts)
    return replace(made, seen=call.shape)


def _as_value(call: Call, given: Operand) -> Value:
    if not isinstance(given, Constant):
        return call.activation(given)
    return call.operand(Constant(given.name, given.tensor.reshape(1, *given.tensor.shape)), given.tensor.dim() + 1)


@aten("where", anywhere=True)
def _where(call: Call) -> Value:
    return _chosen(call, call["condition"], call["self"], call["other"])


@aten("masked_fill", anywhere=True)
def _masked_fill(call: Call) -> Value:
    return _chosen(call, call["mask"], call["value"], call["self"])


LOWEST = 1e4
"""Numbers below the negative of this are written for minus infinity."""


def _chosen(call: Call, mask: Operand, one: Operand, other: Operand) -> Value:
    """``one * mask + other * (1 - mask)``, with a mask that is the same for every picture. Scores that a softmax must
    not see are lowered instead."""
    if not isinstance(mask, Constant):
        raise call.unsupported("its mask is computed from the input", "multiply with a gate in place of choosing")
    keep = mask.tensor.to(torch.float32)
    sides = [(_number(one), Constant(mask.name, keep)), (_number(other), Constant(mask.name, 1 - keep))]
    for (given, part), (rest, _) in (sides, sides[::-1]):
        if isinstance(given, float) and given <= -LOWEST:
            return sum_of(call, rest, _times(call, -FARTHEST, part))
        if isinstance(given, float) and not math.isfinite(given):
            raise call.unsupported(f"it chooses {given}", "choose a number that a grid can hold")
    return sum_of(call, *(_times(call, given, part) for given, part in sides))


def _number(given: Operand) -> Operand:
    """A constant of one number as that number."""
    if isinstance(given, Constant) and given.tensor.numel() == 1:
        return float(given.tensor)
    return given if isinstance(given, Value | Constant) else float(given)


def _times(call: Call, given: Operand, mask: Constant) -> Operand:
    if isinstance(given, Value):
        return product(call, given, mask)
    number = given.tensor if isinstance(given, Constant) else given
    if isinstance(number, torch.Tensor) and not bool(number.isfinite().all()):
        raise call.unsupported("it chooses infinity", "choose numbers that a grid can hold")
    return Constant(mask.name, mask.tensor * number)
