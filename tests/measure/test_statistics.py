"""The statistics against brute force and against what they promise: how often an interval covers the truth."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.measure.statistics import median_interval, paired_interval, percentile, sign_test, wilson_interval

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=40), st.floats(0, 1))
def test_percentile_is_numpys(values: list[float], share: float) -> None:
    assert percentile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-6)


@given(st.lists(finite, min_size=1, max_size=60))
def test_the_median_lies_in_its_interval(values: list[float]) -> None:
    low, high = median_interval(values)
    assert low <= statistics.median(values) <= high
    assert {low, high} <= set(values)


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (10, 2, 9), (20, 6, 15), (50, 18, 33), (100, 40, 61)])
def test_the_order_statistics_are_the_tables(n: int, low: int, high: int) -> None:
    # Ranks of the 95 % interval of a median, as published in tables of the sign test.
    assert median_interval(list(range(1, n + 1))) == (low, high)


def test_the_median_interval_covers_a_skewed_median() -> None:
    rng = np.random.default_rng(0)
    draws = rng.lognormal(size=(600, 50))
    covered = sum(low <= 1.0 <= high for low, high in map(median_interval, draws.tolist()))
    assert 0.93 <= covered / 600 <= 0.995


@pytest.mark.parametrize(("gained", "lost"), itertools.product(range(7), range(7)))
def test_the_sign_test_is_its_definition(gained: int, lost: int) -> None:
    changed, seen = gained + lost, abs(gained - lost)
    as_uneven = [sum(flips) for flips in itertools.product((-1, 1), repeat=changed) if abs(sum(flips)) >= seen]
    assert sign_test(gained, lost) == pytest.approx(len(as_uneven) / 2**changed)


def test_the_sign_test_of_many_changes_stays_a_number() -> None:
    assert sign_test(4000, 4000) == 1.0
    assert 0.0 <= sign_test(3000, 5000) < 1e-50
    assert sign_test(4100, 3900) == pytest.approx(0.026, abs=0.002)  # normal approximation: z = 199 / sqrt(8000)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 400))
def test_the_paired_interval_holds_what_was_seen_and_mirrors(gained: int, lost: int, unchanged: int) -> None:
    total = gained + lost + unchanged
    if total == 0:
        return
    low, high = paired_interval(gained, lost, total)
    assert -1 <= low <= (gained - lost) / total <= high <= 1
    assert paired_interval(lost, gained, total) == pytest.approx((-high, -low))


@pytest.mark.parametrize("p", [(0.0, 0.0), (0.002, 0.002), (0.01, 0.03), (0.05, 0.05), (0.0, 0.1)])
@pytest.mark.parametrize("n", [100, 500])
def test_the_paired_interval_covers(p: tuple[float, float], n: int) -> None:
    # Coverage exactly, by the multinomial distribution: nothing random in the test.
    up, down = p
    covered = 0.0
    for gained in range(min(n, 60) + 1):
        for lost in range(min(n - gained, 110) + 1):
            low, high = paired_interval(gained, lost, n)
            if low <= up - down <= high:
                covered += math.exp(_log_multinomial(n, gained, lost, up, down))
    assert covered >= 0.935


def _log_multinomial(n: int, gained: int, lost: int, up: float, down: float) -> float:
    terms = math.lgamma(n + 1) - math.lgamma(gained + 1) - math.lgamma(lost + 1) - math.lgamma(n - gained - lost + 1)
    for count, chance in ((gained, up), (lost, down), (n - gained - lost, 1 - up - down)):
        if count:
            terms += count * math.log(chance) if chance > 0 else -math.inf
    return terms


def test_no_change_is_not_certainty() -> None:
    low, high = paired_interval(0, 0, 500)
    assert low < 0 < high
    assert high - low < 0.02


@pytest.mark.parametrize(
    ("count", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)]
)
def test_wilson_is_the_published_one(count: int, total: int, low: float, high: float) -> None:
    # 81 of 263 is the worked example of Newcombe (1998), Statistics in Medicine 17, 857-872.
    assert wilson_interval(count, total) == pytest.approx((low, high), abs=1e-4)


def test_very_many_changes_are_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [sign_test(10_000 + more, 10_000) for more in (0, 100, 300, 500)]
    monkeypatch.setattr("edgeq.measure.statistics.MOST_EXACT", 100)
    assert [sign_test(10_000 + more, 10_000) for more in (0, 100, 300, 500)] == pytest.approx(exact, rel=2e-3)
