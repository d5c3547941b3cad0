"""Finding what is wrong with a report: keys that are missing, values no build can have, values that contradict.

A report comes with a build from anywhere, so nothing in it is believed before it has passed here.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.entries import ELEMENTS, KINDS, LONGEST, Entry, Field, Rows, Section
from edgeq.report.fields import FIELDS
from edgeq.report.metric import metric_of

__all__ = ["Fault", "find_faults", "without"]

Keys = tuple[str | int, ...]

CLOSE = 1e-6
"""Percentage points that two ways of computing the same score may differ by."""

BELOW_8 = re.compile(r"w\d+a[2-7]")
"""`bits` of a build whose activations no runtime confines."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with the value at `keys` (names of objects and numbers of rows, from the top), in words."""

    keys: Keys
    text: str
    unknown: bool = False
    """The key is in no table: written by another edgeq, and no harm in a report that is only read."""


def find_faults(report: Mapping[str, Any]) -> list[Fault]:
    """Everything that is wrong with a report of schema `SCHEMA`, in the order of `FIELDS`, contradictions last."""
    faults = list(_faults(report, FIELDS, ()))
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


def _name(keys: Keys) -> str:
    """``devices[0].accuracy.n``"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def _fault(keys: Keys, what: str, **also: bool) -> Fault:
    return Fault(keys, f"{_name(keys)} {what}", **also)


def _faults(value: Mapping[str, Any], fields: Mapping[str, Entry], where: Keys) -> Iterator[Fault]:
    for key in value:
        if key not in fields:
            yield _fault((*where, str(key)[:100]), "is no key of a report", unknown=True)
    for key, entry in fields.items():
        keys = (*where, key)
        if key not in value:
            if not entry.optional:
                yield _fault(keys, "is missing")
        elif value[key] is None:
            if not entry.nullable:
                yield _fault(keys, "is null")
        elif isinstance(entry, Rows):
            if not isinstance(value[key], list):
                yield _fault(keys, "must be a list")
                continue
            for number, row in enumerate(value[key]):
                yield from _inside(row, entry, (*keys, number))
        elif isinstance(entry, Section):
            yield from _inside(value[key], entry, keys)
        else:
            yield from _value_faults(value[key], entry, keys)


def _inside(value: object, entry: Section, keys: Keys) -> Iterator[Fault]:
    if isinstance(value, Mapping):
        yield from _faults(value, entry.fields, keys)
    else:
        yield _fault(keys, "must be an object")


def _value_faults(value: object, field: Field, keys: Keys) -> Iterator[Fault]:
    """At most one: a list of a million wrong numbers is one fault."""
    wrong = _wrong(value, field.kind, field)
    if wrong is None and field.kind in ELEMENTS:
        pairs = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
        for key, element in pairs:
            if _wrong(key, "text", field) and isinstance(value, dict):
                wrong = "has a key that is no text of that length"
            elif inside := _wrong(element, ELEMENTS[field.kind], field):
                yield Fault(keys, f"{_name(keys)}[{key!r}] {inside}")
                return
    if wrong is not None:
        yield _fault(keys, wrong)


def _wrong(value: object, kind: str, field: Field) -> str | None:
    """Why `value` is no value of `kind` within the field's range; None where it is one."""
    wrong_bool = isinstance(value, bool) and kind != "yes/no"  # to Python a bool is an integer
    if wrong_bool or not isinstance(value, KINDS[kind]):
        return f"must be {kind}, not {type(value).__name__}"
    if isinstance(value, str):
        return f"has {len(value):,} characters, at most {LONGEST:,} are allowed" if len(value) > LONGEST else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value}"
        if not field.low <= value <= field.high:
            return f"is {_short(value)}, must be {field.range or 'smaller'}"
    return None


def _short(value: float) -> str:
    try:
        return f"{value:.6g}"
    except OverflowError:  # an integer beyond all floats
        return "far too large"


def _contradictions(report: Mapping[str, Any]) -> Iterator[Fault]:
    """Values that are fine one by one and cannot be true together."""
    yield from _of_exactness(report.get("exactness"))
    accuracy = report.get("accuracy")
    if isinstance(accuracy, Mapping):
        yield from _of_scores(accuracy)
        yield from _of_changes(accuracy)
    names = [row.get("name") for row in report.get("devices") or () if isinstance(row, Mapping)]
    for number, name in enumerate(names):
        if name in names[:number]:
            yield _fault(("devices", number, "name"), "is that of an earlier row")
    if "simulated" not in report and _is_narrow(report):
        yield _fault(("simulated",), "is missing, though activations have fewer than 8 bits")


def _is_narrow(report: Mapping[str, Any]) -> bool:
    """Whether any activation has fewer than 8 bits: by the layers, which may differ from what the build was told."""
    rows = [row for row in report.get("layers") or () if isinstance(row, Mapping)]
    known: list[Any] = [row.get("activation_bits") for row in rows]
    if known and None not in known:
        return bool(min(known) < 8)
    return BELOW_8.fullmatch(str(report.get("bits"))) is not None


def _of_exactness(exactness: Any) -> Iterator[Fault]:
    found = exactness if isinstance(exactness, Mapping) else {}
    values, equal, step = (found.get(key) for key in ("values", "equal", "max_step"))
    if values is None or equal is None:
        return
    if equal > values:
        yield _fault(("exactness", "equal"), f"is {equal:,}, more than the {values:,} values compared")
    elif step is not None and (equal == values) != (step == 0):
        yield _fault(("exactness", "max_step"), f"is {step:,}, though {equal:,} of {values:,} values are equal")


def _of_scores(accuracy: Mapping[str, Any]) -> Iterator[Fault]:
    scores: dict[str, Any] = {}
    for which in ("float", "integer"):
        answers = accuracy.get(which)
        answers = answers if isinstance(answers, Mapping) else {}
        scores[which], top1 = answers.get("score"), answers.get("top1")
        if top1 is not None and scores[which] is not None and abs(top1 - scores[which]) > CLOSE:
            yield _fault(("accuracy", which, "score"), f"is {scores[which]:g}, but top1 is {top1:g}")
    before, after = scores["float"], scores["integer"]
    points = (accuracy.get("difference") or {}).get("points")
    if points is not None and before is not None and after is not None and abs(after - before - points) > CLOSE:
        yield _fault(
            ("accuracy", "difference", "points"), f"is {points:g}, but the scores differ by {after - before:g}"
        )


def _of_changes(accuracy: Mapping[str, Any]) -> Iterator[Fault]:
    """What holds of counted images: a classifier's right and wrong answers."""
    n, agreement, difference = accuracy.get("n"), accuracy.get("agreement"), accuracy.get("difference") or {}
    gained, lost, points, low, high = (difference.get(key) for key in ("gained", "lost", "points", "low", "high"))
    if low is not None and high is not None and points is not None and not low - CLOSE <= points <= high + CLOSE:
        yield _fault(("accuracy", "difference", "low"), "and high do not enclose points")
    if n is None or metric_of(accuracy) != "top-1":
        return
    if gained is not None and lost is not None:
        if gained + lost > n:
            yield _fault(("accuracy", "n"), f"is {n:,}, but {gained + lost:,} images changed")
        elif points is not None and abs(100 * (gained - lost) / n - points) > CLOSE:
            yield _fault(("accuracy", "difference", "points"), "is not what gained and lost make of n")
        if agreement is not None and agreement > 1 - (gained + lost) / n + CLOSE:
            yield _fault(("accuracy", "agreement"), f"is {agreement:g}, but {gained + lost:,} of {n:,} images changed")
