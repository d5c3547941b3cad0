"""Steps in a series of builds, one for each commit: of accuracy by paired answers, of latency by change points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.measure.statistics import sign_test

__all__ = ["AccuracyStep", "accuracy_steps", "latency_steps"]

FALSE_ALARMS = 0.01
"""Chance of at least one false alarm in a series of `LOOKS` builds."""

LOOKS = 200
"""Tests of accuracy that share `FALSE_ALARMS` equally (Bonferroni), so each has a level of 0.00005."""

PERMUTATIONS = 999
SMALLEST = 5
"""Builds on each side of a change point of latency."""

Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AccuracyStep:
    """Build number `at` answers differently from build `baseline`: it `gained` and `lost` images of `total`."""

    at: int
    baseline: int
    gained: int
    lost: int
    total: int
    p: float

    @property
    def points(self) -> float:
        """The step in percentage points; negative for the worse."""
        return 100 * (self.gained - self.lost) / self.total


def accuracy_steps(series: Sequence[Bits]) -> list[AccuracyStep]:
    """Steps of accuracy in `series`, whose members say which of the same images ``(N,)`` each build answers right.

    Each build is compared with the first one since the last step by McNemar's exact test (McNemar 1947, Psychometrika
    12, 153-157), at a level that is divided by the number of looks (Dunn 1961, JASA 56, 52-64). Small losses of many
    commits add up, because the baseline stays until a step is found.
    """
    steps, baseline = [], 0
    for at in range(1, len(series)):
        before, after = series[baseline], series[at]
        gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
        p = sign_test(gained, lost)
        if p <= FALSE_ALARMS / LOOKS:
            steps.append(AccuracyStep(at, baseline, gained, lost, len(before), p))
            baseline = at
    return steps


def latency_steps(ratios: Sequence[float]) -> list[int]:
    """Numbers of the builds at which the integer file's time, divided by the float network's, changes.

    E-divisive with energy statistics and a permutation test (Matteson and James 2014, JASA 109, 334-345), on the
    logarithms of the ratios. The permutations are always the same, so that one history has one answer.
    """
    return sorted(_divide(np.log(np.asarray(ratios, np.float64)), 0))


def _divide(values: Floats, start: int) -> list[int]:
    if len(values) < 2 * SMALLEST:
        return []
    distances = np.abs(values[:, None] - values[None])
    cut, best = _cut(distances)
    random = np.random.default_rng(0)
    larger = 0
    for _ in range(PERMUTATIONS):
        order = random.permutation(len(values))
        larger += _cut(distances[np.ix_(order, order)])[1] >= best
    if (larger + 1) / (PERMUTATIONS + 1) > FALSE_ALARMS:
        return []
    return [start + cut, *_divide(values[:cut], start), *_divide(values[cut:], start + cut)]


def _cut(distances: Floats) -> tuple[int, float]:
    """The place that divides best, and its scaled energy distance, from the table of distances ``(N, N)``."""
    n = len(distances)
    sums = np.zeros((n + 1, n + 1))
    sums[1:, 1:] = distances.cumsum(0).cumsum(1)
    k = np.arange(SMALLEST, n - SMALLEST + 1)
    left = sums[k, k]
    across = sums[k, n] - left
    right = sums[n, n] - left - 2 * across
    m = n - k
    energy = 2 * across / (k * m) - left / (k * (k - 1)) - right / (m * (m - 1))
    scaled = k * m / n * energy
    at = int(scaled.argmax())
    return int(k[at]), float(scaled[at])
