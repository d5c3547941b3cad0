"""How int8 kernels round, reproduced in float64, for the student.

A kernel multiplies whole sums by a fixed-point number and rounds twice, first to a fraction of a step: a 1,000th, or at
few bits a half (`edgeq.integer.fixedpoint.multiply`). Kept are float64 and whole sums: few bits make few different
sums, and one that float32 takes for a tie is a step off wherever it occurs, and so is all that follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeq.finetune.lsq import round_away
from edgeq.graph.ops import Add, AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear, Mul, Op, OpTable, Shape
from edgeq.integer.fixedpoint import quantize_multiplier
from edgeq.integer.reference.elementwise import ADD_HEADROOM

__all__ = ["OWN_WAY", "Reading", "adds_inputs", "break_sum_ties", "nearest", "rescale", "window_mean"]


@dataclass(frozen=True)
class Reading:
    """What a kernel reads: the `steps` of its activations, the `values` of those that it adds, the `weight_steps` of a
    layer ``(C_out,)``, and the shape of its first input. `zero` is the zero point of the output."""

    steps: Sequence[Tensor]
    values: Sequence[Tensor]
    weight_steps: Tensor | None
    shape: Shape
    zero: int

    @property
    def unit(self) -> Tensor:
        """What one of the kernel's sums is worth, float64: the step of its first input, for layers ``(C_out,)``."""
        step = self.steps[0].double()
        return step if self.weight_steps is None else step * self.weight_steps.double()


OWN_WAY: OpTable[Callable[[Any, Tensor, Tensor, Reading], Tensor]] = OpTable("rounds to the nearest step in float32")
"""Ops whose int8 results are not simply rounded to the nearest step, or not in float32: from an op, its real `value`
and the output's `step` to the value as the kernel has it before it is rounded to whole steps."""

AWAY = 1 + 2.0**-20
"""Times a half-rounded value: what is a tie for the kernel must not fall short of one by float32's last bit."""

HALF = 2.0**-13
"""Tie tolerance for integer means, in output steps; non-ties are further from a tie than this."""

NEAR = 2.0**-12
"""Distance from a tie, in steps, from which float32 decides right; sums of 8-bit values are off by 2^-14 at most."""

COARSE = 32
"""Tie tolerance in the kernel's own units, for sums of values that are much coarser than the sum's steps."""


def rescale(value: Tensor, step: Tensor, unit: Tensor, fine: Tensor) -> Tensor:
    """`value` after a kernel's first rounding, to a multiple of a fraction of `step`.

    One of its sums is worth `unit`, float64, which `value` broadcasts with; `fine` decides on the fraction: `unit`, or
    for a mean its part.
    """
    sums = torch.round(value / unit.float()).double()
    fraction = 2.0 ** torch.frexp(fine / step.double()).exponent.clamp(max=0).double()
    return sums.mul_(unit / step.double() / fraction).add_(0.5).floor_().mul_(fraction * AWAY * step).float()


def nearest(value: Tensor, step: Tensor, unit: Tensor) -> Tensor:
    """`value`, whose sums are worth `unit` as in `rescale`, rounded once: what a fully connected layer does."""
    sums = torch.round(value / unit.float()).double()
    return round_away(sums.mul_(unit / step.double())).mul_(step).float()


def break_sum_ties(value: Tensor, parts: Sequence[tuple[Tensor, Tensor]], step: Tensor) -> Tensor:
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
        total = total + _multiply(levels << headroom, real / twice)
    result = value.clone()
    result[near] = _multiply(total, unit) * step
    return result


def _multiply(x: Tensor, real: float) -> Tensor:
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


def adds_inputs(op: Op) -> bool:
    """Whether the kernel of `op` rounds by the values it reads, so that a `Reading` has to have them."""
    return isinstance(op, Add)


@OWN_WAY.rule(AvgPool2d)
def _avg_pool(op: AvgPool2d, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    return window_mean(value, step, reading.zero)


@OWN_WAY.rule(Add)
def _add(op: Add, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    return break_sum_ties(value, list(zip(reading.values, reading.steps, strict=True)), step)


@OWN_WAY.rule(Linear)
def _linear(op: Linear, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    return nearest(value, step, reading.unit)


@OWN_WAY.rule(Conv2d)
def _conv(op: Conv2d, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    unit = reading.unit.view(-1, 1, 1)
    return rescale(value, step, unit, unit)


@OWN_WAY.rule(Clamp)
def _clamp(op: Clamp, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    return rescale(value, step, reading.unit, reading.unit)


@OWN_WAY.rule(Mul)
def _mul(op: Mul, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    unit = reading.unit * reading.steps[-1].double()
    return rescale(value, step, unit, unit)


@OWN_WAY.rule(LeakyReLU)
def _leaky_relu(op: LeakyReLU, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    unit = torch.where(value >= 0, reading.unit, reading.unit * float(np.float32(op.slope)))
    return rescale(value, step, unit, unit)


@OWN_WAY.rule(GlobalAvgPool)
def _mean(op: GlobalAvgPool, value: Tensor, step: Tensor, reading: Reading) -> Tensor:
    """The division by the count goes into the multiplier as far as a power of two: that decides how finely the mean is
    rounded first."""
    count = math.prod(reading.shape[2:])
    return rescale(value, step, reading.unit / count, reading.unit / 2 ** (count.bit_length() - 1))
