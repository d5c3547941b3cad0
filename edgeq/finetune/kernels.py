"""How int8 kernels round, in floats: what stands between a value and the whole step it becomes.

A kernel multiplies whole sums by a fixed-point number and rounds twice, first to a fraction of a step: a 1,000th, or at
few bits a half (`edgeq.integer.fixedpoint.multiply`). Kept are float64 and whole sums: few bits make few different
sums, and one that float32 takes for a tie is a step off wherever it occurs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgeq.finetune.lsq import round_away
from edgeq.graph.elementwise import Mul
from edgeq.graph.ops import AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Op

__all__ = ["OWN_WAY", "limits_of", "rescaled", "window_mean"]

OWN_WAY = (AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Mul)
"""Ops whose results are not simply rounded to the nearest step."""

AWAY = 1 + 2.0**-20
"""Times a half-rounded value: what is a tie for the kernel must not fall short of one by float32's last bit."""

HALF = 2.0**-13
"""As much for a mean of integers, in steps: those that are no ties are further from one."""


def rescaled(value: Tensor, step: Tensor, unit: Tensor, fine: Tensor, limits: Clamp | None) -> Tensor:
    """`value` after a kernel's first rounding, to a multiple of a fraction of `step`.

    One of its sums is worth `unit`, float64, which `value` broadcasts with; `fine` decides on the fraction: `unit`, or
    for a mean its part. `limits` are applied to what is rounded, so that what lies at one is no sum.
    """
    sums = torch.round(value / unit.float()).double()
    fraction = 2.0 ** torch.frexp(fine / step.double()).exponent.clamp(max=0).double()
    made = sums.mul_(unit / step.double() / fraction).add_(0.5).floor_().mul_(fraction * AWAY * step).float()
    if limits is None:
        return made
    return torch.where((value > limits.minimum) & (value < limits.maximum), made, value)


def window_mean(value: Tensor, step: Tensor, zero: int) -> Tensor:
    """Means of windows on the grid of `step` and `zero`: of integers as stored, so that halves go away from their
    zero and not from the value 0."""
    stored = value / step + zero
    return (round_away(stored + stored.sign() * HALF) - zero) * step


def limits_of(op: Op) -> Clamp | None:
    """What limits the results of `op`: itself, or an activation fused into it."""
    return op if isinstance(op, Clamp) else getattr(op, "activation", None)
