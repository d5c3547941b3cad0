"""Choose the scales of an activation's channels: those with the least expected error of the network's outputs.

The error is a function of the scales that can be differentiated: of rounding the activations, whose step all channels
share, and of rounding the weights that read them. Adam (Kingma, Ba 2015) goes down it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.quant.sensitivity import FINEST, STEPS, ChannelErrors

__all__ = ["Grid", "Reader", "best_scales"]

EVENED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of a channel's own size that the search starts from, the best of them."""

STRONGEST = 32.0
"""The most a channel is scaled by: other images may show more of it."""

MOVES, RATE = 50, 0.3
"""Steps of Adam, and how far one goes at first, in powers of two."""

GIVEN_UP = 10
"""After how many steps a search ends that has saved less than half of what is worth it."""

OUTPUTS = 64
"""How many output channels of a layer stand for all of them; rounding all of a large layer takes minutes."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Activations that are rounded on one grid of 2**`bits` levels, none of it above `cap`."""

    members: Sequence[ChannelErrors]
    cap: float
    bits: int


class Reader:
    """A weight ``(O, I / groups, ...)`` of `bits` bits that reads the channels, with its mean squared gradient."""

    def __init__(self, weight: npt.NDArray[np.float32], gradient: npt.NDArray[np.float32], bits: int) -> None:
        self.inputs, self.outputs = weight.shape[1], len(weight)
        every = -(-len(weight) // OUTPUTS)
        self._rows = torch.arange(0, len(weight), every)
        flat = (
            torch.from_numpy(weight).double().flatten(2)
            if weight.ndim > 2
            else torch.from_numpy(weight).double()[..., None]
        )
        # Of the taps of a kernel only the largest decides the step, and all have the same error.
        self._largest = flat.abs().amax(2)
        self._gradient = torch.from_numpy(gradient).double().reshape(flat.shape).sum(2)
        self._levels = 2 ** (bits - 1) - 1

    def error(self, scales: Tensor) -> Tensor:
        """Squared change of the outputs when channels are `scales` times as large and this weight is rounded."""
        groups = len(scales) // self.inputs
        if groups == 1:
            rows, share = self._rows, self.outputs / len(self._rows)
            spread = scales[None, :]
        else:
            rows, share = torch.arange(self.outputs), 1.0
            spread = scales.view(groups, -1).repeat_interleave(self.outputs // groups, dim=0)
        step = (self._largest[rows] / spread).amax(1, keepdim=True) / self._levels
        error: Tensor = share * (self._gradient[rows] * (step * spread).square()).sum() / 12
        return error


@torch.enable_grad()
def best_scales(grids: Sequence[Grid], readers: Sequence[Reader], cap: float, worth: float) -> Array:
    """Scales ``(C,)`` for the channels of all `grids`; all 1 where no scales save an error of `worth`.

    Under a finite `cap` no scale is below 1, which would let values pass where they were cut, and none takes the
    largest observed value beyond the cap. A channel that was always 0 keeps its scale.
    """
    reach = np.max([np.maximum(-one.lowest, one.highest) for grid in grids for one in grid.members], axis=0)
    top = max(float(reach.max()), 1e-30)
    lower, upper = np.full(len(reach), -math.log2(STRONGEST)), np.full(len(reach), math.log2(STRONGEST))
    if math.isfinite(cap):
        lower, upper = np.zeros(len(reach)), np.log2(np.clip(cap / np.maximum(reach, 1e-30), 1.0, STRONGEST))
    lower[reach == 0], upper[reach == 0] = 0.0, 0.0
    ends = torch.from_numpy(lower), torch.from_numpy(upper)
    tables = [_Table(grid) for grid in grids]

    def error(powers: Tensor) -> Tensor:
        scales = 2.0**powers
        total = sum((table.error(scales) for table in tables), start=torch.zeros((), dtype=torch.float64))
        return total + sum(reader.error(scales) for reader in readers)

    shares = torch.from_numpy(np.maximum(reach / top, 1 / STRONGEST))
    starts = [(-evened * shares.log2()).clamp(*ends) for evened in EVENED]
    with torch.no_grad():
        plain = float(error(starts[0]))
        if plain <= worth:
            return np.ones(len(reach))
        errors = [plain, *(float(error(start)) for start in starts[1:])]
    least = min(errors)
    best = starts[errors.index(least)]
    powers = best.clone().requires_grad_()
    optimiser = torch.optim.Adam([powers], lr=RATE)
    for move in range(MOVES):
        if move == GIVEN_UP and plain - least < worth / 2:
            break
        optimiser.param_groups[0]["lr"] = RATE * (1 - move / MOVES)
        optimiser.zero_grad()
        now = error(powers)
        reached = float(now.detach())
        if reached < least:
            best, least = powers.detach().clone(), reached
        now.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            powers.clamp_(*ends)
    return (2.0**best).numpy() if plain - least > worth else np.ones(len(reach))


class _Table:
    """The errors of a `Grid` as a function of the step: between the measured ones they are powers of it."""

    def __init__(self, grid: Grid) -> None:
        self._cap, self._levels = grid.cap, 2**grid.bits - 1
        self._lowest = torch.from_numpy(np.min([one.lowest for one in grid.members], axis=0))
        self._highest = torch.from_numpy(np.max([one.highest for one in grid.members], axis=0))
        self._members = [
            (
                torch.from_numpy(np.maximum(one.highest - one.lowest, 1e-30) / FINEST).log2(),
                torch.from_numpy(np.maximum(one.errors, 1e-30)).log2(),
            )
            for one in grid.members
        ]

    def error(self, scales: Tensor) -> Tensor:
        low = (scales * self._lowest).min().clamp_max(0.0)
        high = (scales * self._highest).max().clamp_max(self._cap)
        steps = ((high - low).clamp_min(1e-30) / self._levels / scales).log2()
        total = torch.zeros((), dtype=torch.float64)
        for finest, errors in self._members:
            place = steps - finest
            left = place.detach().floor().clamp(0, STEPS - 2).long()[:, None]
            inside = (place - left[:, 0]).clamp_max(1.0)
            before, after = errors.gather(1, left)[:, 0], errors.gather(1, left + 1)[:, 0]
            # Finer than all that were measured: uniform noise, whose square falls as that of the step.
            value = torch.where(inside < 0, before + 2 * inside, before + inside * (after - before))
            total = total + (2.0**value).sum()
        return total
