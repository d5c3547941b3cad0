"""Borders that repeat what is inside (reflect, replicate, circular), or are one number: joined around the value."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.ops import Shape

__all__ = ["MODES", "add_border", "add_filled", "pieces"]

MODES = ("reflect", "replicate", "circular")


@aten("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _border(call: Call) -> Value:
    return add_border(call, call.value(), call["padding"], "reflect" if "reflection" in call.name else "replicate")


def add_border(call: Call, value: Value, counts: Sequence[int], mode: str) -> Value:
    """`value` with borders; `counts` as torch lists them: before and after, the last dimension first."""
    if min(counts) < 0:
        raise call.unsupported(f"it cuts by {min(counts)} in mode {mode!r}", "slice first, then pad")
    for place in range(len(counts) // 2):
        axis = len(value.shape) - 1 - place
        before, after = _sources(value.shape[axis], int(counts[2 * place]), int(counts[2 * place + 1]), mode)
        if before or after:
            parts = [*pieces(call, value, axis, before), value, *pieces(call, value, axis, after)]
            value = call.emit(ops.Concat(axis), *parts)
    return value


def _sources(size: int, before: int, after: int, mode: str) -> tuple[list[int], list[int]]:
    """Which rows stand before and after `size` rows."""
    if mode == "reflect":
        return list(range(before, 0, -1)), list(range(size - 2, size - 2 - after, -1))
    if mode == "replicate":
        return [0] * before, [size - 1] * after
    return list(range(size - before, size)), list(range(after))


def add_filled(call: Call, value: Value, before: Shape, after: Shape, filling: float) -> Value:
    """`value` between blocks of one number, so many rows before it and after it along each dimension."""
    for axis, counts in enumerate(zip(before, after, strict=True)):
        first, last = (_block(call, value, axis, count, filling) for count in counts)
        if first or last:
            value = call.emit(ops.Concat(axis), *first, value, *last)
    return value


def _block(call: Call, value: Value, axis: int, count: int, filling: float) -> list[Value]:
    shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
    return [call.emit(ops.Constant(), Constant("filling", torch.full(shape, filling)))] if count else []


def pieces(call: Call, value: Value, axis: int, rows: list[int], label: str = "border") -> list[Value]:
    """The rows, those that follow each other in one slice, a repeated one sliced once."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row:
            runs[-1] = (runs[-1][0], row + 1)
        else:
            runs.append((row, row + 1))
    cuts: dict[tuple[int, int], Value] = {}
    for run in runs:
        if run not in cuts:
            start, stop = [0] * len(value.shape), list(value.shape)
            start[axis], stop[axis] = run
            cut = ops.Slice(tuple(start), tuple(stop), (1,) * len(start))
            cuts[run] = call.emit(cut, value, label=label) if run != (0, value.shape[axis]) else value
    return [cuts[run] for run in runs]
