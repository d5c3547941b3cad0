"""Orders of elements as axes: each function against numpy doing the same to an array of numbers."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.formats.tflite.order import natural, permute, positions, turn

sizes = st.integers(1, 4)
mirrors = st.tuples(st.booleans(), st.booleans())


@given(shape=st.tuples(sizes, sizes, sizes), mirror=mirrors)
def test_natural_is_nhwc_in_the_mirror(shape: tuple[int, ...], mirror: tuple[bool, bool]) -> None:
    numbers = np.arange(math.prod(shape)).reshape(shape)
    seen = numbers[:, :: -1 if mirror[0] else 1, :: -1 if mirror[1] else 1].transpose(1, 2, 0)
    np.testing.assert_array_equal(positions(natural((1, *shape), mirror)), seen.reshape(-1))


@given(shape=st.lists(sizes, min_size=1, max_size=5), data=st.data(), mirror=mirrors)
def test_a_permutation_renumbers(shape: list[int], data: st.DataObject, mirror: tuple[bool, bool]) -> None:
    dims = data.draw(st.permutations(range(len(shape))))
    before = natural((1, *shape), mirror)
    after = permute(before, (1, *shape), (0, *(d + 1 for d in dims)))
    assert after is not None
    new = np.argsort(np.arange(math.prod(shape)).reshape(shape).transpose(dims).reshape(-1))
    np.testing.assert_array_equal(positions(after), new[positions(before)])


@given(shape=st.tuples(sizes, sizes, sizes, sizes), dims=st.permutations(range(4)), one=mirrors, other=mirrors)
def test_a_turn_takes_one_order_to_the_other(shape, dims, one, other) -> None:  # type: ignore[no-untyped-def]
    """A value (A, B, C, D) seen as (A * B, C, D), permuted while apart, seen as a picture again."""
    picture = (1, shape[0] * shape[1], *shape[2:])
    source = permute(natural(picture, one), (1, *shape), (0, *(d + 1 for d in dims)))
    a, b, c, d = (shape[i] for i in dims)
    target = natural((1, a * b, c, d), other)
    assert source is not None
    change = turn(source, target)
    assert change is not None
    made = positions(source).reshape(change.shape).transpose(change.dims)
    np.testing.assert_array_equal(np.flip(made, change.flips).reshape(-1), positions(target))
