"""Intervals of differences between two networks by resampling the images that both answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.measure.statistics import LEVEL

__all__ = ["bootstrap_interval", "mean_iou"]

Array = npt.NDArray[Any]

RESAMPLES = 2000
"""Draws of the images: the ends of an interval then vary by a few percent of its width."""

FEWEST, MOST_DRAWN = 200, 2 * 10**8
"""Draws of very many images, and the numbers that all draws together may have."""

AT_ONCE = 2**22
"""Numbers of a batch of draws in memory."""


def bootstrap_interval(
    values: Array, statistic: Callable[[Array], Array], level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Interval of `statistic` of the sums over images of `values` ``(N, ...)``, by the percentiles of the bootstrap.

    `statistic` takes sums ``(B, ...)`` of B draws of N images with replacement and returns ``(B,)``; where it has no
    value for a draw, that is NaN. Both networks' values of an image are in one row, so each draw takes both (Efron and
    Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13).
    """
    rng, images = np.random.default_rng(seed), len(values)
    rows = np.asarray(values, np.float64).reshape(images, -1)
    draws, batch = max(FEWEST, min(RESAMPLES, MOST_DRAWN // images)), max(1, AT_ONCE // images)
    parts = []
    for start in range(0, draws, batch):
        count = min(batch, draws - start)
        drawn = rng.multinomial(images, np.full(images, 1 / images), count).astype(np.float64)
        parts.append(statistic((drawn @ rows).reshape(count, *values.shape[1:])))
    low, high = np.nanquantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_iou(areas: Array) -> Array:
    """mIoU in percent of sums of areas ``(..., C, 2)``: pixels where answer and truth meet, and that either covers."""
    covered = areas[..., 1] > 0
    shares = np.divide(areas[..., 0], areas[..., 1], out=np.zeros(areas.shape[:-1]), where=covered)
    return np.asarray(100 * shares.sum(-1) / np.maximum(covered.sum(-1), 1))
