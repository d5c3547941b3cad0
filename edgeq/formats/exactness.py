"""Exactness: how many of the values that a runtime computed equal the integer reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "Exactness", "compare", "gather"]


@dataclass(frozen=True)
class Difference:
    """One op: `values` compared, `equal` of them, largest distance in integer steps, first place that differs.

    `beyond` of them are more than one step apart.
    """

    values: int
    equal: int
    max_step: int
    first: str | None = None
    beyond: int = 0


@dataclass(frozen=True)
class Exactness:
    """`reference` names the kernels compared with. `per_op` maps a node to (values, equal, max_step).

    `beyond` of the `values` are more than one step from the reference.
    """

    reference: str
    values: int
    equal: int
    max_step: int
    per_op: Mapping[str, tuple[int, int, int]]
    first_difference: str | None = None
    beyond: int = 0

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the values that are equal, one step apart, and further apart."""
        total = max(self.values, 1)
        return self.equal / total, (self.values - self.equal - self.beyond) / total, self.beyond / total

    @property
    def exact(self) -> bool:
        """Something was compared and all of it is equal."""
        return self.values > 0 and self.equal == self.values

    @property
    def allowed_step(self) -> int:
        """Largest step that is no mistake: onnxruntime rounds ties its own way, LiteRT as the reference does."""
        return int(self.reference.startswith("tflite rounding"))

    @property
    def held(self) -> bool:
        """Whether something was compared and nothing is further from the reference than `allowed_step`."""
        return self.values > 0 and (self.beyond == 0 if self.allowed_step else self.exact)

    @property
    def first_wrong(self) -> tuple[str, int, int] | None:
        """The first op further from the reference than `allowed_step`: its name, how many values differ, and by how
        much at most. None where there is none."""
        for name, (values, equal, step) in self.per_op.items():
            if step > self.allowed_step:
                return name, values - equal, step
        return None


def compare(expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> Difference:
    """Two integer arrays of one shape, logical order."""
    steps = np.abs(expected.astype(np.int64) - actual.astype(np.int64))
    wrong = int(np.count_nonzero(steps))
    if not wrong:
        return Difference(steps.size, steps.size, 0)
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(steps > 0)), steps.shape))
    first = f"{list(place)}: reference {int(expected[place])}, runtime {int(actual[place])}"
    return Difference(steps.size, steps.size - wrong, int(steps.max()), first, int(np.count_nonzero(steps > 1)))


def gather(reference: str, order: Iterable[str], differences: Iterable[tuple[str, Difference]]) -> Exactness:
    """Sum differences per node; the first difference is that of the earliest node in execution `order`."""
    per_op = dict.fromkeys(order, (0, 0, 0))
    first: dict[str, str] = {}
    beyond = 0
    for name, one in differences:
        beyond += one.beyond
        values, equal, step = per_op[name]
        per_op[name] = (values + one.values, equal + one.equal, max(step, one.max_step))
        if one.first is not None:
            first.setdefault(name, one.first)
    per_op = {name: counts for name, counts in per_op.items() if counts[0]}
    earliest = next((f"{name} at {first[name]}" for name in per_op if name in first), None)
    totals = [sum(counts[i] for counts in per_op.values()) for i in (0, 1)]
    largest = max((c[2] for c in per_op.values()), default=0)
    return Exactness(reference, totals[0], totals[1], largest, per_op, earliest, beyond)
