"""Means and averages of any window: which ops they become. Their values are swept (`test_sweep.py`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import Tensor

from tests.ops.formats import both_formats


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


@pytest.mark.parametrize(("before", "after"), [((7, 5), (3, 4)), ((4, 11), (6, 2))])
@pytest.mark.parametrize("pool", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d])
def test_adaptive_pools_to_sizes_that_do_not_divide(before, after, pool) -> None:  # type: ignore[no-untyped-def]
    kinds = both_formats(lambda x: pool(x, after), (3, *before))
    assert {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "CONCATENATION", "STRIDED_SLICE"} & set(kinds)
