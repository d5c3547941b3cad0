"""Gates: exact at their limits, failed where there is nothing to judge, deaf to unknown schemas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.config.build import Budget
from edgeq.errors import ArtifactError
from edgeq.report.check import Gate, _at_least, _at_most, check

Build = Callable[..., Path]


def only(folder: Path, **limits: Any) -> Gate:
    """The one gate asked for, the artifact's own being held."""
    artifact, gate = check(folder, **limits).gates
    assert artifact.held
    return gate


def accuracy(before: float, after: float) -> Callable[[dict[str, Any]], None]:
    def spoil(report: dict[str, Any]) -> None:
        report["accuracy"]["float"]["score"], report["accuracy"]["integer"]["score"] = before, after

    return spoil


def test_a_good_build_holds(build: Build) -> None:
    result = check(build(), max_drop=2.0, min_agreement=0.97, max_bytes=4_000_000, max_latency_ratio=1.0)
    assert result.held
    assert [gate.name for gate in result.gates] == [
        "artifact", "max-drop", "min-agreement", "max-bytes", "max-latency-ratio"
    ]  # fmt: skip
    assert all(gate.reason is None for gate in result.gates)
    assert result.gates[3].margin == 4_000_000 - 2_400_000
    shown = result.to_json()
    assert shown["passed"] is True
    assert shown["rows"][1]["limit"] == 2.0


def test_the_budget_of_a_configuration_fits(build: Build) -> None:
    assert check(build(), **dataclasses.asdict(Budget(max_drop=2.0))).held


@pytest.mark.parametrize(
    ("before", "after", "held"),
    [(94.2, 93.2, True), (94.2, 93.199, False), (90.0, 91.0, True), (88.3, 87.3, True), (94.2, 93.1999999, False)],
)
def test_a_drop_is_in_points_and_exact_at_its_limit(build: Build, before: float, after: float, held: bool) -> None:
    gate = only(build(accuracy(before, after)), max_drop=1.0)
    assert gate.held is held
    assert gate.margin == pytest.approx(1.0 - (before - after), abs=1e-8)
    assert (gate.reason is None) is held


@pytest.mark.parametrize(
    "limits",
    [{"max_drop": 1.0}, {"min_agreement": 0.999}, {"max_bytes": 2_399_999}, {"max_latency_ratio": 0.5}],
    ids=lambda limits: next(iter(limits)),
)
def test_each_gate_can_fail(build: Build, limits: dict[str, Any]) -> None:
    result = check(build(), **limits)
    assert not result.held
    gate = result.gates[1]
    assert gate.margin is not None
    assert gate.margin < 0
    assert "missed by" in str(gate.reason)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_margins_say_whether_it_held(limit: float, value: float) -> None:
    for gate in (_at_most("x", limit, value, ""), _at_least("x", limit, value, "")):
        assert gate.margin is not None
        assert gate.held == (gate.margin >= 0)
    if abs(limit - value) > 1e-6:
        assert _at_most("x", limit, value, "").held == (value < limit)
        assert _at_least("x", limit, value, "").held == (value > limit)


@pytest.mark.parametrize("limits", [{"max_drop": 5.0}, {"min_agreement": 0.0}])
def test_accuracy_that_was_not_measured_fails(build: Build, limits: dict[str, Any]) -> None:
    gate = only(build(accuracy=None), **limits)
    assert (gate.held, gate.value, gate.margin) == (False, None, None)
    assert "not measured" in str(gate.reason)


@pytest.mark.parametrize("value", [None, "93", math.nan, math.inf, True, [1]])
def test_a_value_that_is_no_number_fails(build: Build, value: Any) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["accuracy"]["integer"]["score"] = value

    gate = only(build(spoil), max_drop=1e9)
    assert (gate.held, gate.value) == (False, None)


def test_a_latency_not_to_be_believed_fails_with_its_reason(build: Build) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["latency"] |= {"valid": False, "reason": "the processor is emulated"}

    gate = only(build(spoil), max_latency_ratio=10.0)
    assert not gate.held
    assert "the processor is emulated" in str(gate.reason)
    assert "not measured" in str(only(build(latency=None), max_latency_ratio=10.0).reason)


def test_the_artifact_must_be_the_one_measured(build: Build) -> None:
    folder = build()
    (folder / "signs64.tflite").write_bytes(b"another")
    result = check(folder, max_bytes=100)
    assert [gate.held for gate in result.gates] == [False, True]
    assert "changed after it was measured" in str(result.gates[0].reason)
    (folder / "signs64.tflite").unlink()
    missing, size = check(folder, max_bytes=100).gates
    assert (missing.held, size.held, size.value) == (False, False, None)


@pytest.mark.parametrize("path", ["../signs64.tflite", "/etc/passwd", "", "..", "a\\b", 7, None])
def test_an_artifact_elsewhere_is_not_opened(build: Build, path: Any) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["artifact"]["path"] = path

    (gate,) = check(build(spoil)).gates
    assert not gate.held
    assert gate.value is None


@pytest.mark.parametrize("schema", [0, 2, None, "1", True])
def test_an_unknown_schema_is_refused(build: Build, schema: Any) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["schema"] = schema

    with pytest.raises(ArtifactError, match=r"schema.*reads 1"):
        check(build(spoil))


@pytest.mark.parametrize("text", [None, "", "[]", "[" * 100_000, "\xff"])
def test_no_report_or_no_json(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError):
        check(tmp_path, max_drop=1.0)


def test_pieces_of_the_wrong_kind_fail_gates_instead_of_crashing(build: Build) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report |= {"accuracy": [], "latency": "fast", "artifact": None}

    result = check(build(spoil), max_drop=1.0, min_agreement=0.5, max_bytes=9, max_latency_ratio=2.0)
    assert not any(gate.held for gate in result.gates)
