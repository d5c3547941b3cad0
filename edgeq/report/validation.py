"""Finding what is wrong with a report: keys that are missing, values no build can have, values that contradict.

A report comes with a build from anywhere, so nothing in it is believed before it has passed here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeq.config.typed import Fault, find_faults
from edgeq.report.fields import Report
from edgeq.report.metric import metric_of

__all__ = ["report_faults", "without"]

CLOSE = 1e-6
"""Percentage points that two ways of computing the same score may differ by."""

BELOW_8 = re.compile(r"w\d+a[2-7]")
"""`bits` of a build whose activations no runtime confines."""


def report_faults(report: Mapping[str, Any]) -> list[Fault]:
    """Everything that is wrong with a report of schema `SCHEMA`, in the order of `Report`, contradictions last."""
    faults = list(find_faults(report, Report))
    return [*faults, *_contradictions(without(report, faults))]


def without(report: Mapping[str, Any], faults: Sequence[Fault]) -> dict[str, Any]:
    """A copy of `report` in which the values that `faults` are about are null."""
    kept = dict(report)
    for fault in faults:
        holder: Any = kept
        for key in fault.keys[:-1]:
            if not _has(holder, key):
                break
            holder[key] = holder = copy.copy(holder[key])  # a deep copy would follow a stranger's nesting
        else:
            if _has(holder, fault.keys[-1]):
                holder[fault.keys[-1]] = None
    return kept


def _has(holder: Any, key: str | int) -> bool:
    if isinstance(holder, list):
        return isinstance(key, int) and key < len(holder)
    return isinstance(holder, dict) and key in holder


def _contradictions(report: Mapping[str, Any]) -> Iterator[Fault]:
    """Find values that are valid one by one but cannot be true together."""
    yield from _of_exactness(report.get("exactness"))
    accuracy = report.get("accuracy")
    if isinstance(accuracy, Mapping):
        yield from _of_scores(accuracy)
        yield from _of_changes(accuracy)
        yield from _of_confusion(accuracy.get("confusion"))
    yield from _of_differences(report.get("regression"))
    names = [row.get("name") for row in report.get("devices") or () if isinstance(row, Mapping)]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield Fault(("devices", number, "name"), "is that of an earlier row")
    if "simulated" not in report and _is_narrow(report):
        yield Fault(("simulated",), "is missing, though activations have fewer than 8 bits")


def _is_narrow(report: Mapping[str, Any]) -> bool:
    """Whether any activation has fewer than 8 bits: by the layers, which may differ from what the build was told."""
    rows = [row for row in report.get("layers") or () if isinstance(row, Mapping)]
    known: list[Any] = [row.get("activation_bits") for row in rows]
    if known and None not in known:
        return bool(min(known) < 8)
    return BELOW_8.fullmatch(str(report.get("bits"))) is not None


def _of_exactness(exactness: Any) -> Iterator[Fault]:
    section = exactness if isinstance(exactness, Mapping) else {}
    values, equal, step = (section.get(key) for key in ("values", "equal", "max_step"))
    if values is None or equal is None:
        return
    if equal > values:
        yield Fault(("exactness", "equal"), f"is {equal:,}, more than the {values:,} values compared")
    elif step is not None and (equal == values) != (step == 0):
        yield Fault(("exactness", "max_step"), f"is {step:,}, though {equal:,} of {values:,} values are equal")


def _of_differences(regression: Any) -> Iterator[Fault]:
    rows = regression.get("outputs") if isinstance(regression, Mapping) else None
    for number, row in enumerate(rows if isinstance(rows, list) else ()):
        known = row if isinstance(row, Mapping) else {}
        values = [float(known.get(f"{which}_difference") or 0) for which in ("mean", "p95", "max")]
        if known.get("max_difference") is not None and max(values) > values[2] * (1 + CLOSE):
            yield Fault(("regression", "outputs", number, "max_difference"), "is not the largest difference")


def _of_confusion(confusion: Any) -> Iterator[Fault]:
    if not isinstance(confusion, Mapping) or not isinstance(confusion.get("classes"), list):
        return
    size = len(confusion["classes"])
    for which in ("float", "integer"):
        rows = confusion.get(which)
        if isinstance(rows, list) and [len(row) for row in rows] != [size] * size:
            yield Fault(("accuracy", "confusion", which), f"has not {size} rows of {size} counts")


def _of_scores(accuracy: Mapping[str, Any]) -> Iterator[Fault]:
    scores: dict[str, Any] = {}
    for which in ("float", "integer"):
        answers = accuracy.get(which)
        answers = answers if isinstance(answers, Mapping) else {}
        scores[which], top1 = answers.get("score"), answers.get("top1")
        if top1 is not None and scores[which] is not None and abs(top1 - scores[which]) > CLOSE:
            yield Fault(("accuracy", which, "score"), f"is {scores[which]:g}, but top1 is {top1:g}")
    before, after = scores["float"], scores["integer"]
    points = (accuracy.get("difference") or {}).get("points")
    if points is not None and before is not None and after is not None and abs(after - before - points) > CLOSE:
        yield Fault(("accuracy", "difference", "points"), f"is {points:g}, but the scores differ by {after - before:g}")


def _of_changes(accuracy: Mapping[str, Any]) -> Iterator[Fault]:
    """What holds of counted images: a classifier's right and wrong answers."""
    n, agreement, difference = accuracy.get("n"), accuracy.get("agreement"), accuracy.get("difference") or {}
    gained, lost, points, low, high = (difference.get(key) for key in ("gained", "lost", "points", "low", "high"))
    if low is not None and high is not None and points is not None and not low - CLOSE <= points <= high + CLOSE:
        yield Fault(("accuracy", "difference", "low"), "and high do not enclose points")
    if n is None or metric_of(accuracy) != "top-1":
        return
    if gained is not None and lost is not None:
        if gained + lost > n:
            yield Fault(("accuracy", "n"), f"is {n:,}, but {gained + lost:,} images changed")
        elif points is not None and abs(100 * (gained - lost) / n - points) > CLOSE:
            yield Fault(("accuracy", "difference", "points"), "is not what gained and lost make of n")
        if agreement is not None and agreement > 1 - (gained + lost) / n + CLOSE:
            yield Fault(("accuracy", "agreement"), f"is {agreement:g}, but {gained + lost:,} of {n:,} images changed")
