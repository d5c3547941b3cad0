"""Means and averages of any window, borders that repeat: torch's values, and exact integers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.ops.flow import EXAMPLES
from tests.ops.formats import both_formats

PARTS = [(1,), (2,), (3,), (1, 2), (-1, -2)]


@pytest.mark.parametrize(
    ("axes", "keep"), [*((p, False) for p in PARTS), *((p, True) for p in PARTS), ((1, 2, 3), True)]
)
def test_mean_of_pictures(axes: tuple[int, ...], keep: bool) -> None:
    both_formats(lambda x: x.mean(axes, keep), (6, 4, 5))


@pytest.mark.parametrize(
    ("function", "moves"),
    [
        (lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).mean(1), False),
        (lambda x: x.flatten(2).mean(2), False),
        (lambda x: x.permute(0, 2, 3, 1).flatten(1, 2).mean(2), True),
    ],
    ids=["over pixels in rows", "over flattened pixels", "over values in rows"],
)
def test_mean_of_rows(function: Callable[[Tensor], Tensor], moves: bool) -> None:
    assert ("TRANSPOSE" in both_formats(function, (6, 4, 5))) is moves


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), ((5, 3), (1, 1), (2, 1))])
def test_averages_that_count_padding_need_no_pad(kernel, stride, padding) -> None:  # type: ignore[no-untyped-def]
    kinds = both_formats(lambda x: F.avg_pool2d(x, kernel, stride, padding), (6, 8, 10))
    assert set(kinds) <= {"DEPTHWISE_CONV_2D", "REVERSE_V2", "RESHAPE"}


@EXAMPLES
@given(sides=st.tuples(*[st.integers(0, 3)] * 4), mode=st.sampled_from(["reflect", "replicate", "circular"]))
def test_borders(sides: tuple[int, ...], mode: str) -> None:
    if any(sides):
        assert "CONCATENATION" in both_formats(lambda x: F.pad(x, sides, mode=mode), (3, 4, 5))


@EXAMPLES
@given(
    before=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    after=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    pool=st.sampled_from([F.adaptive_avg_pool2d, F.adaptive_max_pool2d]),
)
def test_adaptive_pools_to_any_size(before, after, pool) -> None:  # type: ignore[no-untyped-def]
    if before != after:
        kinds = both_formats(lambda x: pool(x, after), (3, *before))
        assert {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "CONCATENATION", "STRIDED_SLICE"} & set(kinds)


@pytest.mark.parametrize("layer", [nn.ReflectionPad2d((2, 1, 0, 3)), nn.ReplicationPad2d(1)], ids=str)
def test_border_layers(layer: nn.Module) -> None:
    both_formats(layer, (3, 4, 5))
