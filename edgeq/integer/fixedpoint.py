"""Fixed-point multiplication as TFLite's kernels round it (LiteRT 2.3.0, found by experiment: it rounds twice).

A real multiplier is a 31-bit fraction and a power of two; a product is rounded to a whole number after the fraction and
again after the power of two. Arrays are int64 throughout, so nothing overflows before it is rounded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Multiplier", "high_product", "multiply", "multiply_wide", "quantize_multiplier", "rounding_shift"]

Int = npt.NDArray[np.int64]
Multiplier = tuple[Int, Int]
"""Fractions (2^30 to 2^31, or 0) and exponents: real = fraction x 2^(exponent - 31)."""

SMALLEST_EXPONENT = -31


def quantize_multiplier(real: npt.ArrayLike) -> Multiplier:
    """Fraction and exponent of positive real multipliers, element by element."""
    mantissa, exponent = np.frexp(np.asarray(real, np.float64))
    fraction = np.floor(mantissa * 2.0**31 + 0.5).astype(np.int64)
    full = fraction == 1 << 31
    fraction, exponent = np.where(full, fraction >> 1, fraction), exponent.astype(np.int64) + full
    tiny = exponent < SMALLEST_EXPONENT
    return np.where(tiny, 0, fraction), np.where(tiny, 0, exponent)


def high_product(a: Int, b: Int) -> Int:
    """``a * b / 2^31`` to the nearest integer, halves up, saturated like an int32."""
    product = np.asarray(a * b)
    product += 1 << 30
    product >>= 31
    return np.minimum(product, (1 << 31) - 1)


def rounding_shift(x: Int, bits: Int | int) -> Int:
    """``x / 2^bits`` to the nearest integer, halves away from zero; `bits` >= 0."""
    bits = np.asarray(bits, np.int64)
    nearest: Int = x + ((np.int64(1) << bits) >> 1)
    nearest -= (x < 0) & (bits > 0)
    return np.asarray(nearest >> bits)


def multiply(x: Int, multiplier: Multiplier) -> Int:
    """`x` times the real multiplier as the kernels compute it; shapes broadcast."""
    fraction, exponent = multiplier
    left, right = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    return rounding_shift(high_product(x << left, fraction), right)


def multiply_wide(x: Int, multiplier: Multiplier) -> Int:
    """`x` times the real multiplier as int16 convolutions rescale their 64-bit sums: by 15 bits of the fraction, so
    that the product still fits, and rounded once, halves up. Shapes broadcast; ``|x| < 2^47``."""
    fraction, exponent = multiplier
    short = np.where(fraction < 0x7FFF0000, (fraction + (1 << 15)) >> 16, 0x7FFF)
    shift = 15 - exponent
    return np.asarray((x * short + (np.int64(1) << (shift - 1))) >> shift)
