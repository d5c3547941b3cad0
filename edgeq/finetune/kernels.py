"""How int8 kernels round, reproduced in float64, for the student.

A kernel multiplies whole sums by a fixed-point number and rounds twice, first to a fraction of a step: a 1,000th, or at
few bits a half (`edgeq.integer.fixedpoint.multiply`). Kept are float64 and whole sums: few bits make few different
sums, and one that float32 takes for a tie is a step off wherever it occurs, and so is all that follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgeq.finetune.lsq import round_away
from edgeq.graph.ops import Add, AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear, Mul, Op
from edgeq.integer.fixedpoint import quantize_multiplier
from edgeq.integer.reference.layers import ADD_HEADROOM

__all__ = ["OWN_WAY", "added", "limits_of", "nearest", "rescaled", "window_mean"]

OWN_WAY = (Add, AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear, Mul)
"""Ops whose results are not simply rounded to the nearest step, or not in float32."""

AWAY = 1 + 2.0**-20
"""Times a half-rounded value: what is a tie for the kernel must not fall short of one by float32's last bit."""

HALF = 2.0**-13
"""Tie tolerance for integer means, in output steps; non-ties are further from a tie than this."""

NEAR = 2.0**-12
"""Distance from a tie, in steps, from which float32 decides right; sums of 8-bit values are off by 2^-14 at most."""

COARSE = 32
"""Tie tolerance in the kernel's own units, for sums of values that are much coarser than the sum's steps."""


def rescaled(value: Tensor, step: Tensor, unit: Tensor, fine: Tensor) -> Tensor:
    """`value` after a kernel's first rounding, to a multiple of a fraction of `step`.

    One of its sums is worth `unit`, float64, which `value` broadcasts with; `fine` decides on the fraction: `unit`, or
    for a mean its part.
    """
    sums = torch.round(value / unit.float()).double()
    fraction = 2.0 ** torch.frexp(fine / step.double()).exponent.clamp(max=0).double()
    return sums.mul_(unit / step.double() / fraction).add_(0.5).floor_().mul_(fraction * AWAY * step).float()


def nearest(value: Tensor, step: Tensor, unit: Tensor) -> Tensor:
    """`value`, whose sums are worth `unit` as in `rescaled`, rounded once: what a fully connected layer does."""
    sums = torch.round(value / unit.float()).double()
    return round_away(sums.mul_(unit / step.double())).mul_(step).float()


def added(value: Tensor, parts: Sequence[tuple[Tensor, Tensor]], step: Tensor) -> Tensor:
    """`value`, the sum of values on grids, each given with its grid's step, on the right side of every tie between
    whole steps. A kernel gives integers 20 bits more, rescales each by the largest step, and their sum once more."""
    headroom, steps = ADD_HEADROOM["int8"], [float(own) for _, own in parts]
    twice = 2 * max(steps)
    unit = twice / ((1 << headroom) * float(step))
    ratio = value / step
    near = (ratio - ratio.floor()).sub_(0.5).abs_() < NEAR + COARSE * unit
    total = torch.zeros((), dtype=torch.int64, device=value.device)
    for (part, own), real in zip(parts, steps, strict=True):
        levels = torch.round(part.expand_as(value)[near] / own).long()
        total = total + _multiplied(levels << headroom, real / twice)
    made = value.clone()
    made[near] = _multiplied(total, unit) * step
    return made


def _multiplied(x: Tensor, real: float) -> Tensor:
    """`edgeq.integer.fixedpoint.multiply`, of an int64 tensor."""
    fraction, exponent = (int(part) for part in quantize_multiplier(real))
    left, right = max(exponent, 0), max(-exponent, 0)
    high = (((x << left) * fraction + (1 << 30)) >> 31).clamp_(max=(1 << 31) - 1)
    return (high + (1 << right >> 1) - (high < 0).long()) >> right if right else high


def window_mean(value: Tensor, step: Tensor, zero: int) -> Tensor:
    """Means of windows on the grid of `step` and `zero`: of integers as stored, so that halves go away from their
    zero and not from the value 0."""
    stored = value / step + zero
    return (round_away(stored + stored.sign() * HALF) - zero) * step


def limits_of(op: Op) -> Clamp | None:
    """What limits the results of `op`: itself, or an activation fused into it."""
    return op if isinstance(op, Clamp) else getattr(op, "activation", None)
