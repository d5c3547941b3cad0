"""Softmax in fixed point, as TFLite's int8 reference kernel computes it (gemmlowp's exponential and reciprocal).

A number with `k` integer bits is an int32 holding real x 2^(31 - k); products of such numbers are `high_product`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.integer.fixedpoint import Int, high_product, quantize_multiplier, rounding_shift

__all__ = ["softmax"]

DIFFERENCE_BITS = 5
"""Integer bits of a scaled difference: the exponential is taken of values above -32."""
SUM_BITS = 12
"""Integer bits of the sum of exponentials: up to 4,096 classes of equal weight."""
SMALLEST_HEADROOM = 4
"""The fewest free bits above the sum; with fewer the kernel would shift an int32 by more than 31."""
ONE = (1 << 31) - 1
_ITERATIONS = 3


def softmax(x: npt.NDArray[np.int64], scale: float, axis: int) -> npt.NDArray[np.int64]:
    """int8 logits of this scale, along `axis`, to int8 probabilities of scale 1/256, zero point -128.

    Raises `UnsupportedError` where the runtime's own kernel aborts the process: exponentials that sum to 512 or more.
    """
    real = min(scale * 2.0 ** (31 - DIFFERENCE_BITS), 2.0**31 - 1)
    fraction, exponent = quantize_multiplier(real)
    radius = int(np.floor(((1 << DIFFERENCE_BITS) - 1) * 2.0 ** (31 - DIFFERENCE_BITS) / 2.0 ** int(exponent)))
    difference = x - x.max(axis=axis, keepdims=True)
    near = difference >= -radius
    scaled = high_product(np.where(near, difference, 0) << exponent, fraction)
    exponentials = np.where(near, _exponential(scaled), 0)
    total = np.sum(rounding_shift(exponentials, SUM_BITS), axis=axis, keepdims=True)
    headroom = 31 - np.floor(np.log2(total.astype(np.float64))).astype(np.int64)
    if np.any(headroom < SMALLEST_HEADROOM):
        raise UnsupportedError(
            "softmax over very many nearly equal classes",
            why="LiteRT's reference kernel aborts on it",
            hint="leave the softmax out of the model: it changes no ranking",
        )
    reciprocal = _reciprocal((total << headroom) - (1 << 31))
    product = high_product(reciprocal, exponentials)
    probability = rounding_shift(product, SUM_BITS - headroom + 31 - 8)
    return np.where(near, np.clip(probability - 128, -128, 127), -128)


def _real(value: float) -> Int:
    """A real constant without integer bits."""
    return np.asarray(np.floor(value * 2.0**31 + 0.5), np.int64)


def _exponential(a: Int) -> Int:
    """exp of non-positive numbers with `DIFFERENCE_BITS` integer bits, as numbers without integer bits."""
    quarter = 1 << (31 - DIFFERENCE_BITS - 2)
    below = (a & (quarter - 1)) - quarter
    result = _exponential_near_zero(below << DIFFERENCE_BITS)
    remainder = below - a
    for power in range(-2, DIFFERENCE_BITS):
        factor = _real(float(np.exp(-(2.0**power))))
        bit = remainder >> (31 - DIFFERENCE_BITS + power) & 1
        result = np.where(bit == 1, high_product(result, factor), result)
    return np.where(a == 0, ONE, result)


def _exponential_near_zero(a: Int) -> Int:
    """exp on [-1/4, 0): Taylor's series around -1/8 to the fourth power."""
    centre, third = _real(float(np.exp(-0.125))), _real(1 / 3)
    x = a + (1 << 28)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    tail = rounding_shift(high_product(rounding_shift(x4, 2) + x3, third) + x2, 1)
    return np.asarray(centre + high_product(np.asarray(x + tail), centre))


def _reciprocal(a: Int) -> Int:
    """1 / (1 + a) for a in [0, 1) without integer bits: Newton's method on half the denominator."""
    half = (a + ONE + 1) >> 1
    constant, slope = _real(48 / 17 / 4), _real(-32 / 17 / 4)
    x = constant + high_product(half, slope)
    for _ in range(_ITERATIONS):
        left = (1 << 29) - high_product(half, x)
        x = x + _saturate(high_product(x, left) << 2)
    return _saturate(x << 1)


def _saturate(x: Int) -> Int:
    return np.clip(x, -(1 << 31), ONE)
