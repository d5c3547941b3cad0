"""How ONNX Runtime's kernels add, multiply and take sigmoids of 8-bit integers, and what is made of those.

Part of `ort_rounding`. Integers are signed here; `shift` is 128 where the file's are uint8: kernels that add zero
points in float round otherwise for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.integer.graph import Quantization

__all__ = ["GATE", "SIGMOID", "THREE", "add", "hard_sigmoid", "multiply", "sigmoid"]

Integers = npt.NDArray[Any]


def _fixed(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.float32(scale), np.int32(zero_point))  # type: ignore[arg-type]


SIGMOID = _fixed(1 / 256, -128)
"""Grid of every sigmoid."""
THREE = _fixed(3.0, 0)
"""Grid on which 1 is what a hard sigmoid adds."""
GATE = _fixed(6 / 255, -128)
"""Grid of ``relu6(x + 3)``: it saturates where relu6 does. Read as 0..1, its integers are divided by 6."""


def _limit(integers: npt.NDArray[Any], q: Quantization) -> Integers:
    return np.clip(integers, *q.limits).astype(np.int8)


def add(a: Integers, b: Integers, one: Quantization, other: Quantization, y: Quantization, shift: int) -> Integers:
    """A fused multiply-add per input around a fixed part, which is made with one itself (where the CPU has them)."""
    zero_a, zero_b, zero_y = (np.float32(grid.zero_point + shift) for grid in (one, other, y))
    ratio_a, ratio_b = one.scale / y.scale, other.scale / y.scale
    fixed = zero_y - _fused(zero_a, ratio_a, ratio_b * zero_b)
    first, second = (np.asarray(array, np.float64) + shift for array in (a, b))
    total = _fused(first, ratio_a, _fused(second, ratio_b, fixed))
    return _limit(np.rint(total) - shift, y)


def _fused(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Any:
    """``a * b + c`` rounded to float32 once: float64 holds the product of two float32 numbers exactly."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    return (product + np.asarray(c, np.float64)).astype(np.float32)


def multiply(a: Integers, b: Integers, one: Quantization, other: Quantization, y: Quantization, shift: int) -> Integers:
    """The exact integer product times a float32 ratio of scales, the zero point added to it; half to even."""
    product = (a.astype(np.int64) - int(one.zero_point)) * (b.astype(np.int64) - int(other.zero_point))
    total = _fused(product, one.scale * other.scale / y.scale, np.float32(y.zero_point + shift))
    return _limit(np.rint(total) - shift, y)


def sigmoid(x: Integers, source: Quantization) -> Integers:
    """On its own grid, half to even."""
    real = source.dequantize(x).astype(np.float64)
    made = (1 / (1 + np.exp(-real))).astype(np.float32)
    return _limit(np.rint(made / SIGMOID.scale).astype(np.float64) + int(SIGMOID.zero_point), SIGMOID)


def hard_sigmoid(x: Integers, source: Quantization, shift: int) -> Integers:
    """A sum that saturates at 0 and 6, on a grid of six times the scale."""
    return add(x, np.ones((), np.int8), source, THREE, GATE, shift)
