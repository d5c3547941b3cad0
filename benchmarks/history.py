"""Prints benchmarks/results/history.md: how often `edgeq history check` finds a step, and cries for none.

python benchmarks/history.py > benchmarks/results/history.md
"""

from __future__ import annotations

import numpy as np

from edgeq.measure.statistics import wilson_interval
from edgeq.measure.steps import accuracy_steps

COMMITS, AT = 200, 100


def _found(random: np.random.Generator, images: int, near: float, step: float) -> bool:
    """Whether a series has a step: images that are `near` a tie are answered anew by each build, by a fair coin."""
    place = np.linspace(0, 1, images, endpoint=False)
    coin = place >= 1 - near
    series = []
    for commit in range(COMMITS):
        right = place < 0.7 - (step if commit >= AT else 0)
        right[coin] = random.random(int(coin.sum())) < 0.5
        series.append(right)
    steps = accuracy_steps(series)
    return any(each.at >= AT and each.points < 0 for each in steps) if step else bool(steps)


def main() -> None:
    random = np.random.default_rng(23)
    runs = 400
    print(f"# Steps of accuracy in simulated series of {COMMITS} commits\n")
    print(f"{runs} series a row. Images near a tie are answered anew by each build, by a fair coin. In series with a")
    print("step, one point is lost at the middle commit. Brackets are 95 % Wilson intervals.\n")
    print("| images | near a tie | false alarms | power for 1 point |\n|---|---|---|---|")
    for images, near in ((10_000, 0.01), (10_000, 0.04), (5_000, 0.02), (2_000, 0.02)):
        cells = []
        for step in (0, 0.01):
            count = sum(_found(random, images, near, step) for _ in range(runs))
            low, high = wilson_interval(count, runs)
            cells.append(f"{100 * count / runs:.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
        print(f"| {images:,} | {100 * near:.0f} % | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
