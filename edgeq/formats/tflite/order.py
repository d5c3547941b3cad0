"""The order in which a tensor holds a value's elements, as nested axes, and how one order becomes another.

A value's elements are numbered in torch's order, batch left out. A file that walks them differently does so along axes:
``((H, W), (W, 1), (C, H * W))`` is NHWC, outermost first, each axis a size and the step in numbers it takes. A reshape
changes no order; a permutation renumbers; a mirrored axis has a negative step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.graph.ops import Shape

__all__ = ["Order", "Turn", "natural", "permute", "positions", "turn", "turned"]

Order = tuple[tuple[int, int], ...]
"""(size, step) of each axis, outermost first; no axis of size 1."""


def natural(shape: Shape, mirror: tuple[bool, bool]) -> Order:
    """How a file holds a value of this (batch-1) shape: NHWC, mirrored, in 4-D; torch's own order otherwise."""
    if len(shape) != 4:
        return _whole([(math.prod(shape[1:]), 1)])
    _, channels, height, width = shape
    rows = (height, -width if mirror[0] else width)
    columns = (width, -1 if mirror[1] else 1)
    return _whole([rows, columns, (channels, height * width)])


def turned(shape: Shape) -> Order:
    """How a file holds a value of this (batch-1) shape, which is no picture, with the last two dimensions exchanged."""
    rows, columns = shape[-2:]
    return _whole([(math.prod(shape[1:-2]), rows * columns), (columns, 1), (rows, columns)])


def positions(order: Order) -> npt.NDArray[np.int64]:
    """The number of each element, in the order of the file."""
    numbers = np.zeros(1, np.int64)
    for size, step in order:
        start = -step * (size - 1) if step < 0 else 0
        numbers = (numbers[:, None] + start + step * np.arange(size, dtype=np.int64)).reshape(-1)
    return numbers


def permute(order: Order, shape: Shape, dims: Shape) -> Order | None:
    """Number the same places after a permutation of the (batch-1) `shape`; None where axes straddle dimensions."""
    before = _steps(shape[1:])
    after = _steps([shape[d] for d in dims[1:]])
    new = {d - 1: after[place] for place, d in enumerate(dims[1:])}
    pieces = _split(order, before)
    if pieces is None:
        return None
    moved = []
    for size, step in pieces:
        inside = [d for d in new if shape[d + 1] > 1 and before[d] <= abs(step) < before[d] * shape[d + 1]]
        if not inside or step % before[inside[0]]:
            return None
        moved.append((size, step // before[inside[0]] * new[inside[0]]))
    return _whole(moved)


@dataclass(frozen=True)
class Turn:
    """One order to another: see the source as `shape` (no batch), transpose by `dims`, then reverse `flips`."""

    shape: Shape
    dims: Shape
    flips: Shape

    @property
    def moves(self) -> bool:
        return self.dims != tuple(range(len(self.dims)))


def turn(source: Order, target: Order) -> Turn | None:
    """What rearranges a tensor in `source` order to `target` order; None where no transposition does."""
    breaks = [abs(step) for _, step in (*source, *target)]
    old, new = _split(source, breaks), _split(target, breaks)
    if old is None or new is None:
        return None
    places = {(size, abs(step)): i for i, (size, step) in enumerate(old)}
    if len(places) != len(old) or {(size, abs(step)) for size, step in new} != set(places):
        return None
    runs: list[list[int]] = []  # source axes that stay side by side, in target order
    flips: list[bool] = []
    for size, step in new:
        place = places[size, abs(step)]
        flip = (step < 0) != (old[place][1] < 0)
        if runs and runs[-1][-1] + 1 == place and flips[-1] == flip:
            runs[-1].append(place)
        else:
            runs.append([place])
            flips.append(flip)
    in_source = sorted(runs)
    shape = tuple(math.prod(old[i][0] for i in run) for run in in_source)
    dims = tuple(in_source.index(run) for run in runs)
    return Turn(shape, dims, tuple(i for i, flip in enumerate(flips) if flip))


def _steps(sizes: Sequence[int]) -> list[int]:
    """How far apart in torch's order neighbours along each dimension are."""
    return [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]


def _split(order: Order, breaks: Iterable[int]) -> Order | None:
    """`order` with every axis cut where a step of `breaks` lies inside it; None where that leaves a remainder."""
    cut: list[tuple[int, int]] = []
    for size, step in order:
        sign, step = (-1 if step < 0 else 1), abs(step)
        marks = [step, *sorted({b for b in breaks if step < b < step * size}), step * size]
        if any(far % near for near, far in itertools.pairwise(marks)):
            return None
        pieces = [(far // near, sign * near) for near, far in itertools.pairwise(marks)]
        cut.extend(reversed(pieces))
    return tuple(cut)


def _whole(axes: Iterable[tuple[int, int]]) -> Order:
    """Without axes of size 1, and with axes joined that walk on where the next one ends."""
    joined: list[tuple[int, int]] = []
    for size, step in axes:
        if size == 1:
            continue
        if joined and joined[-1][1] == step * size:
            joined[-1] = (joined[-1][0] * size, step)
        else:
            joined.append((size, step))
    return tuple(joined)
