"""From a sum of integers to integers on the output's grid, within its limits and a fused activation's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import ops
from edgeq.integer.fixedpoint import Int, Multiplier
from edgeq.integer.graph import Quantization
from edgeq.integer.reference.table import Array

__all__ = ["Scale", "limits_within", "requantize", "scale_of"]

Scale = Callable[[Int, Multiplier], Int]
"""Multiplication of sums by a fixed-point number: `multiply` or `multiply_wide`."""


def limits_within(q: Quantization, clamp: ops.Clamp | None) -> tuple[int, int]:
    """The integer range a fused activation leaves. Bounds are divided and rounded in float32."""
    low, high = q.limits
    if clamp is not None and math.isfinite(clamp.minimum):
        low = max(low, int(q.zero_point) + _round(np.float32(clamp.minimum) / q.scale))
    if clamp is not None and math.isfinite(clamp.maximum):
        high = min(high, int(q.zero_point) + _round(np.float32(clamp.maximum) / q.scale))
    return low, high


def _round(x: np.floating[Any] | npt.NDArray[np.float32]) -> int:
    """Nearest integer, halves away from zero."""
    value = float(x)
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def scale_of(q: Quantization) -> float:
    """The one scale of a per-tensor quantization, in float64."""
    return float(q.scale)


def requantize(acc: Array, multiplier: Multiplier, q: Quantization, clamp: ops.Clamp | None, scale: Scale) -> Array:
    """Sums `acc` times `multiplier`, put on the grid of `q` and within `clamp`; `scale` multiplies."""
    result = scale(acc.astype(np.int64, copy=False), multiplier)
    result += int(q.zero_point)
    return np.clip(result, *limits_within(q, clamp), out=result)
