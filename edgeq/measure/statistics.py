"""Statistics of the measurements: percentiles, intervals of medians and shares, and tests of paired answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

__all__ = [
    "LEVEL",
    "images_to_decide",
    "median_interval",
    "paired_interval",
    "percentile",
    "sign_test",
    "wilson_interval",
]

LEVEL = 0.95
"""Confidence level of every interval edgeq prints."""

MOST_EXACT = 50_000
"""Changes up to which binomial coefficients are added up."""

POWER = 0.8
"""Chance that so many images as `images_to_decide` says decide, if the difference is as it seems."""

MOST_IMAGES = 10**7
"""More images than anybody labels."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, interpolated linearly between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """An interval that covers the median of what `values` were drawn from, whatever its distribution.

    Its ends are two of the values, chosen by the binomial distribution of how many lie below the median (David and
    Nagaraja, *Order Statistics*, section 7.1). Few values give the whole range, at less than `level`.
    """
    ordered = sorted(values)
    n = len(ordered)
    outside = 0.0
    low = 0
    while low < (n - 1) // 2 and outside + math.comb(n, low) / 2**n <= (1 - level) / 2:
        outside += math.comb(n, low) / 2**n
        low += 1
    low = max(low - 1, 0)
    return ordered[low], ordered[n - 1 - low]


def wilson_interval(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a share of which `count` in `total` were seen (Wilson 1927); behaves at 0 and at all of them."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_interval(gained: int, lost: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the difference of two shares measured on the same `total` things.

    `gained` became right, `lost` became wrong; the rest did not change and say nothing. Adjusted Wald interval of
    Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37(4), 479-488): one imagined change each
    way keeps it honest where few answers, or none, changed, where resampling would claim certainty.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    up, down = (gained + 1) / (total + 2), (lost + 1) / (total + 2)
    half = z * math.sqrt((up + down - (up - down) ** 2) / (total + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def sign_test(gained: int, lost: int) -> float:
    """How likely a split at least this uneven is when neither side is favoured: McNemar's test, exact, two-sided.

    Of more than `MOST_EXACT` changes the normal distribution is taken, which then agrees to three digits.
    """
    changed = gained + lost
    if changed > MOST_EXACT:
        return math.erfc(max(0, abs(gained - lost) - 1) / math.sqrt(2 * changed))
    term = total = 1
    for i in range(min(gained, lost)):
        term = term * (changed - i) // (i + 1)
        total += term
    tail: float = 2 * total / 2**changed  # integers of any size: the division is correctly rounded
    return min(1.0, tail)


def images_to_decide(total: int, low: float, high: float, limit: float, level: float = LEVEL) -> int | None:
    """How many images decide on which side of `limit` a difference lies whose interval is `low` to `high` on `total`.

    The usual sample size at a power of 80 %, with the difference and the spread taken from these images (for shares of
    paired answers: Connor 1987, Biometrics 43, 207-211). Rounded up to two digits. None where the difference is so
    close to the limit that no set of images would do.
    """
    normal = NormalDist()
    z = normal.inv_cdf((1 + level) / 2)
    error, distance = (high - low) / (2 * z), abs((low + high) / 2 - limit)
    if distance * math.sqrt(MOST_IMAGES / total) <= (z + normal.inv_cdf(POWER)) * error:
        return None
    needed = max(total + 1, math.ceil(total * ((z + normal.inv_cdf(POWER)) * error / distance) ** 2))
    digit: int = 10 ** max(0, len(str(needed)) - 2)
    return -(-needed // digit) * digit
