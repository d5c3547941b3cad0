"""Fixed-point multipliers against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.integer.fixedpoint import high_product, multiply, quantize_multiplier, rounding_shift

int32 = st.integers(-(2**31) + 1, 2**31 - 1)


@given(st.floats(1e-9, 1e4))
def test_multiplier_is_the_nearest_31_bit_fraction(real: float) -> None:
    fraction, exponent = quantize_multiplier(real)
    assert 2**30 <= fraction < 2**31
    represented = Fraction(int(fraction)) * Fraction(2) ** (int(exponent) - 31)
    assert abs(represented / Fraction(real) - 1) <= Fraction(1, 2**31)


def test_tiny_multipliers_become_zero() -> None:
    assert quantize_multiplier(2.0**-40)[0] == 0


@given(int32, st.integers(0, 2**31 - 1))
def test_high_product_rounds_to_nearest(a: int, b: int) -> None:
    found = int(high_product(np.asarray(a, np.int64), np.asarray(b, np.int64)))
    assert abs(Fraction(a * b, 2**31) - found) <= Fraction(1, 2)


@given(int32, st.integers(0, 31))
def test_shift_rounds_halves_away_from_zero(x: int, bits: int) -> None:
    found = int(rounding_shift(np.asarray(x, np.int64), bits))
    exact = Fraction(abs(x), 2**bits)
    nearest = int(exact + Fraction(1, 2))
    assert found == (nearest if x >= 0 else -nearest)


@given(st.integers(-(2**24), 2**24), st.floats(1e-6, 1.0))
def test_multiply_is_within_one_of_exact(x: int, real: float) -> None:
    found = int(multiply(np.asarray(x, np.int64), quantize_multiplier(real)))
    assert abs(found - x * real) < 1.01
