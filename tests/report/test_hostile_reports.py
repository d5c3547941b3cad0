"""Every value of a report spoilt in every way: `check` never crashes, and never passes on a number that was touched."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.report.check import CheckResult, check
from edgeq.report.device import device_row, with_devices
from tests.report.conftest import sample
from tests.report.test_devices import answers, bench

LIMITS: dict[str, float] = {
    "max_drop": 2.0,
    "min_score": 90.0,
    "min_agreement": 0.9,
    "max_bytes": 10**9,
    "max_latency_ratio": 2.0,
    "max_device_drop": 5.0,
    "min_device_score": 80.0,
    "min_device_agreement": 0.9,
    "max_device_latency_ratio": 2.0,
    "max_device_ms": 50.0,
    "max_device_bytes": 10**9,
}

WRONG = {
    "null": None,
    "text": "93.0",
    "huge text": "9" * 20_000,
    "list": [1],
    "object": {"a": 1},
    "yes": True,
    "NaN": math.nan,
    "infinity": math.inf,
    "1e308": 1e308,
    "a huge integer": 10**400,
    "less than nothing": -1e17,
}
"""Values that fit no field, or few."""

DELETED = object()


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A report with every section, few rows and few timings."""
    simulated = {"values": 3, "images": 2000, "file_score": 41.0}
    made = sample(bits="w8a4", layers=sample()["layers"][:2], simulated=simulated)
    made["latency"]["samples"] = {"float_ms": [6.0, 6.1], "integer_ms": [3.0, 3.1]}
    made["accuracy"]["sha256"] = "same"
    report: dict[str, Any] = json.loads(
        json.dumps(with_devices(made, [device_row("pi@board", bench(), answers(made))]))
    )
    return report


def leaves(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys of every object, list and plain value."""
    if where:
        yield where
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in pairs:
        yield from leaves(inside, (*where, key))


def spoilt(report: dict[str, Any], keys: tuple[Any, ...], value: Any) -> dict[str, Any]:
    made = copy.copy(report)
    holder: Any = made
    for key in keys[:-1]:
        holder[key] = copy.copy(holder[key])
        holder = holder[key]
    if value is DELETED:
        del holder[keys[-1]]
    else:
        holder[keys[-1]] = value
    return made


def judged(result: CheckResult) -> list[tuple[Any, ...]]:
    return [(gate.name, gate.limit, gate.value, gate.held) for gate in result.gates]


@pytest.fixture
def run(build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]) -> Callable[..., Any]:
    """`check` of the build, its report being what is given."""
    folder = build(lambda report: report.update(whole))
    monkeypatch.setattr("edgeq.report.integrity._hash_file", _remembered())

    def checked(report: dict[str, Any]) -> CheckResult:
        monkeypatch.setattr("edgeq.report.reading.read_report", lambda _: report)
        return check(folder, **LIMITS, allow_simulated=True, devices=("pi@board",))

    return checked


def _remembered() -> Callable[[Path], tuple[int, str]]:
    """Hashes of files that do not change while this test runs."""
    from edgeq.report.integrity import _hash_file

    known: dict[Path, tuple[int, str]] = {}
    return lambda path: known[path] if path in known else known.setdefault(path, _hash_file(path))


def test_the_whole_report_holds(whole: dict[str, Any], run: Callable[..., CheckResult]) -> None:
    assert run(whole).held


@pytest.mark.parametrize("how", [*WRONG, "deleted"])
def test_a_spoilt_value_never_passes_a_gate_that_reads_it(
    how: str, whole: dict[str, Any], run: Callable[..., CheckResult]
) -> None:
    before = judged(run(whole))
    for keys in leaves(whole):
        if keys == ("schema",):
            continue
        original = whole
        for key in keys:
            original = original[key]
        value = DELETED if how == "deleted" else WRONG[how]
        if value == original or (value is DELETED and isinstance(keys[-1], int) and keys[0] != "devices"):
            continue  # a list may be shorter
        result = run(spoilt(whole, keys, value))
        json.dumps(result.to_json())
        if result.held:
            assert judged(result) == before, keys
