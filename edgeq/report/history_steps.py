"""What a history says: real steps of accuracy and latency, and its numbers in the formats of other tools."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from edgeq.measure.steps import accuracy_steps, latency_steps
from edgeq.report.history import Entry

__all__ = ["Step", "bencher", "github_action_benchmark", "history_steps"]


@dataclass(frozen=True)
class Step:
    """A step of `metric` (accuracy or latency) at `commit`, build number `at` of `name`.

    `change` is in points for accuracy, and in percent of the ratio integer/float for latency.
    """

    name: str
    metric: str
    commit: str
    at: int
    change: float

    @property
    def is_worse(self) -> bool:
        return self.change < 0 if self.metric == "accuracy" else self.change > 0


def history_steps(history: Mapping[str, Sequence[Entry]]) -> list[Step]:
    """Steps of all series, oldest first in each. Builds that answered other images start a new series of accuracy."""
    steps = []
    for name, entries in history.items():
        answered = [(at, entry) for at, entry in enumerate(entries) if entry.n]
        for _, group in groupby(answered, key=lambda pair: (pair[1].images, pair[1].n)):
            pairs = list(group)
            for step in accuracy_steps([entry.right for _, entry in pairs]):
                at, entry = pairs[step.at]
                steps.append(Step(name, "accuracy", entry.hash, at, step.points))
        timed = [(at, entry.hash, entry.ratio) for at, entry in enumerate(entries) if entry.ratio is not None]
        cuts = latency_steps([ratio for _, _, ratio in timed])
        ends = [0, *cuts, len(timed)]
        middles = [statistics.median(ratio for _, _, ratio in timed[a:b]) for a, b in pairwise(ends) if a < b]
        for i, cut in enumerate(cuts):
            change = 100 * (middles[i + 1] / middles[i] - 1)
            steps.append(Step(name, "latency", timed[cut][1], timed[cut][0], change))
    return steps


def _newest(history: Mapping[str, Sequence[Entry]]) -> dict[str, dict[str, float]]:
    kinds = ("score", "bytes", "ms", "ratio")
    return {
        name: {kind: value for kind in kinds if (value := getattr(entries[-1], kind)) is not None}
        for name, entries in history.items()
    }


def bencher(history: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """The newest build of each series in Bencher Metric Format."""
    return {name: {kind: {"value": x} for kind, x in facts.items()} for name, facts in _newest(history).items()}


def github_action_benchmark(history: Mapping[str, Sequence[Entry]]) -> list[dict[str, Any]]:
    """The newest builds for github-action-benchmark's `customSmallerIsBetter`: the score is given as its error."""
    units = {"score": "points lost of 100", "bytes": "bytes", "ms": "ms", "ratio": "integer/float"}
    return [
        {"name": f"{name}: {kind}", "unit": units[kind], "value": 100 - x if kind == "score" else x}
        for name, facts in _newest(history).items()
        for kind, x in facts.items()
    ]
