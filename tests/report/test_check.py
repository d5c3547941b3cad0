"""Gates: exact at their limits, failed where there is nothing to judge, deaf to unknown schemas."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.config.build import Budget
from edgeq.errors import ArtifactError
from edgeq.report.check import MIN_IMAGES, CheckResult, Gate, check
from edgeq.report.gate import at_least, at_most

Build = Callable[..., Path]
Spoil = Callable[[dict[str, Any]], None]

ALWAYS = ["report", "artifact", "lock", "exactness"]
"""Gates of every build."""


def only(folder: Path, **limits: Any) -> Gate:
    """The one gate asked for, those before it being held."""
    *before, gate = check(folder, **limits).gates
    assert [other.name for other in before[:4]] == ALWAYS
    assert all(other.held for other in before)
    return gate


def gate_of(result: CheckResult, name: str) -> Gate:
    """The gate of this name."""
    (found,) = (gate for gate in result.gates if gate.name == name)
    return found


def accuracy(before: float, after: float) -> Spoil:
    """Scores of a dense network, which come without counted images."""

    def spoil(report: dict[str, Any]) -> None:
        section = report["accuracy"]
        section |= {"metric": "mIoU", "float": {"score": before}, "integer": {"score": after}}
        section["difference"] = {"points": after - before}

    return spoil


def put(value: Any, *path: str) -> Spoil:
    def spoil(report: dict[str, Any]) -> None:
        holder = report
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value

    return spoil


def test_a_good_build_holds(build: Build) -> None:
    result = check(build(), max_drop=2.0, min_score=90, min_agreement=0.97, max_bytes=4_000_000, max_latency_ratio=1.0)
    assert result.held
    assert [gate.name for gate in result.gates] == [
        *ALWAYS,
        "min-images",
        "max-drop",
        "min-score",
        "min-agreement",
        "max-bytes",
        "max-latency-ratio",
    ]
    assert all(gate.reason is None for gate in result.gates)
    assert gate_of(result, "max-bytes").margin == 4_000_000 - 2_400_000
    shown = result.to_json()
    assert shown["passed"] is True
    assert shown["rows"][5]["limit"] == 2.0


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
    [
        {"max_drop": 1.0},
        {"min_score": 99.0},
        {"min_agreement": 0.999},
        {"max_bytes": 2_399_999},
        {"max_latency_ratio": 0.5},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_each_gate_can_fail(build: Build, limits: dict[str, Any]) -> None:
    gate = only(build(), **limits)
    assert not gate.held
    assert gate.margin is not None
    assert gate.margin < 0
    assert "missed by" in str(gate.reason)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_margins_say_whether_it_held(limit: float, value: float) -> None:
    for gate in (at_most("x", limit, value, ""), at_least("x", limit, value, "")):
        assert gate.margin is not None
        assert gate.held == (gate.margin >= 0)
    if abs(limit - value) > 1e-6:
        assert at_most("x", limit, value, "").held == (value < limit)
        assert at_least("x", limit, value, "").held == (value > limit)


@pytest.mark.parametrize("limits", [{"max_drop": 5.0}, {"min_score": 0.0}, {"min_agreement": 0.0}])
def test_accuracy_that_was_not_measured_fails(build: Build, limits: dict[str, Any]) -> None:
    *_, images, gate = check(build(accuracy=None), **limits).gates
    assert (images.name, images.held) == ("min-images", False)
    assert (gate.held, gate.value, gate.margin) == (False, None, None)
    assert "not measured" in str(gate.reason)


@pytest.mark.parametrize("value", [None, "93", math.nan, math.inf, True, [1], -1, 1e308])
def test_a_value_that_is_no_score_fails(build: Build, value: Any) -> None:
    result = check(build(put(value, "accuracy", "integer", "score")), max_drop=1e9)
    gate = gate_of(result, "max-drop")
    assert (gate.held, gate.value) == (False, None)
    assert "accuracy.integer.score" in str(gate.reason)
    assert "accuracy.integer.score" in str(gate_of(result, "report").reason)


def test_a_latency_not_to_be_believed_fails_with_its_reason(build: Build) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["latency"] |= {"valid": False, "reason": "the processor is emulated"}

    gate = only(build(spoil), max_latency_ratio=10.0)
    assert not gate.held
    assert "the processor is emulated" in str(gate.reason)
    assert "not measured" in str(only(build(latency=None), max_latency_ratio=10.0).reason)


@pytest.mark.parametrize("n", [1, 20, MIN_IMAGES - 1])
def test_few_images_judge_no_accuracy(build: Build, n: int) -> None:
    def spoil(report: dict[str, Any]) -> None:
        accuracy(94.0, 94.0)(report)
        report["accuracy"]["n"] = n

    folder = build(spoil)
    for limits in ({"max_drop": 1.0}, {"min_score": 1.0}, {"min_agreement": 0.5}):
        result = check(folder, **limits)
        assert [gate.name for gate in result.gates if not gate.held] == ["min-images"]
        assert f"--min-images {n}" in str(gate_of(result, "min-images").reason)
        assert check(folder, **limits, min_images=n).held
    assert check(folder, max_bytes=10**9).held


def test_a_loss_that_the_images_leave_open_is_noted(build: Build) -> None:
    report = json.loads((build() / "report.json").read_text())
    change = report["accuracy"]["difference"]
    open_limit = (-change["points"] - change["low"]) / 2
    noted = only(build(), max_drop=open_limit)
    assert noted.held
    assert "not decided with n" in str(noted.note)
    assert only(build(), max_drop=-change["low"] + 0.01).note is None


def test_accuracy_no_file_has_is_judged_on_request_only(build: Build) -> None:
    simulated = {"values": 9, "images": 500, "file_score": 41.5}
    folder = build(bits="w4a4", simulated=simulated)
    for limits in ({"max_drop": 2.0}, {"min_score": 50.0}, {"min_agreement": 0.9}):
        result = check(folder, **limits)
        assert [gate.name for gate in result.gates if not gate.held] == ["simulated"]
        assert "41.50 %" in str(gate_of(result, "simulated").reason)
        allowed = check(folder, **limits, allow_simulated=True)
        assert allowed.held
        assert "41.50 %" in str(gate_of(allowed, "simulated").note)
    assert check(folder, max_bytes=10**9).held
    hidden = check(build(put("w4a4", "bits")), max_drop=2.0, allow_simulated=True)
    assert "fewer than 8 bits" in str(gate_of(hidden, "report").reason)


@pytest.mark.parametrize(
    ("exactness", "why"),
    [
        (None, "not verified"),
        ({"values": 0, "equal": 0, "max_step": 0}, "no value was compared"),
        ({"values": 1000, "equal": 500, "max_step": 1}, "500 of 1,000 integers differ"),
        ({"values": 1000, "equal": 999, "max_step": 1}, "1 of 1,000 integers differ"),
        ({"values": 1000, "equal": 2000, "max_step": 1}, "more than the 1,000 values compared"),
        ({"values": 1000, "equal": 500, "max_step": 0}, "500 of 1,000 values are equal"),
    ],
)
def test_a_file_that_computes_something_else_fails_whatever_is_asked(
    build: Build, exactness: dict[str, Any] | None, why: str
) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["exactness"] = exactness and {"reference": "x"} | exactness

    gate = gate_of(check(build(spoil)), "exactness")
    assert not gate.held
    assert why in str(gate.reason)


@pytest.mark.parametrize(
    ("equal", "step", "held"), [(1000, 0, True), (990, 1, True), (500, 1, False), (999, 2, False), (999, 100, False)]
)
def test_onnx_may_be_a_step_off_where_it_rounds_otherwise(build: Build, equal: int, step: int, held: bool) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report["artifact"]["path"] = "signs64.onnx"
        report["exactness"] |= {"values": 1000, "equal": equal, "max_step": step}

    assert gate_of(check(build(spoil)), "exactness").held is held


def test_the_artifact_must_be_the_one_measured(build: Build) -> None:
    folder = build()
    (folder / "signs64.tflite").write_bytes(b"another")
    result = check(folder, max_bytes=100)
    assert [gate.name for gate in result.gates if not gate.held] == ["artifact", "lock"]
    assert "changed after it was measured" in str(gate_of(result, "artifact").reason)
    (folder / "signs64.tflite").unlink()
    result = check(folder, max_bytes=100)
    assert (gate_of(result, "artifact").held, gate_of(result, "max-bytes").value) == (False, None)


@pytest.mark.parametrize("name", ["integer.safetensors", "calibration.npz", "float.tflite"])
def test_every_file_must_be_the_one_the_lock_names(build: Build, name: str) -> None:
    folder = build()
    (folder / name).write_bytes(b"other")
    gate = gate_of(check(folder), "lock")
    assert not gate.held
    assert f"{name} is not the one that was built" in str(gate.reason)
    (folder / name).unlink()
    assert name in str(gate_of(check(folder), "lock").reason)
    os.mkfifo(folder / name)
    assert "no regular file" in str(gate_of(check(folder), "lock").reason)


def test_a_lock_of_another_build_an_old_one_or_none_fails(build: Build) -> None:
    folder = build()
    path = folder / "edgeq.lock"
    whole = json.loads(path.read_text())

    def reason(contents: Any) -> str:
        path.write_text(json.dumps(contents))
        gate = gate_of(check(folder), "lock")
        assert not gate.held
        return str(gate.reason)

    digest = whole["artifact"]["sha256"]
    assert "of another build" in reason({**whole, "artifact": whole["artifact"] | {"sha256": "0" * 64}})
    assert "of another build" in reason({**whole, "artifact": []})
    assert "names no files" in reason({key: value for key, value in whole.items() if key != "files"})
    for name in whole["files"]:
        assert f"says nothing of {name}" in reason(
            {**whole, "files": {other: told for other, told in whole["files"].items() if other != name}}
        )
    assert "no file of a build" in reason({**whole, "files": whole["files"] | {"../x": {"bytes": 1, "sha256": digest}}})
    assert "no file of a build" in reason({**whole, "files": whole["files"] | {"integer.safetensors": 7}})
    assert "contradicts itself" in reason({**whole, "files": whole["files"] | {"signs64.tflite": {}}})
    assert "not a lock" in reason([])
    assert "not a lock" in reason({**whole, "schema": 99})
    path.unlink()
    assert "there is no edgeq.lock" in str(gate_of(check(folder), "lock").reason)


@pytest.mark.parametrize("path", ["../signs64.tflite", "/etc/passwd", "", "..", "a\\b", "a\0", 7, None])
def test_an_artifact_elsewhere_is_not_opened(build: Build, path: Any) -> None:
    gate = gate_of(check(build(put(path, "artifact", "path"))), "artifact")
    assert not gate.held
    assert gate.value is None


@pytest.mark.parametrize("schema", [0, 2, None, "1", True])
def test_an_unknown_schema_is_refused(build: Build, schema: Any) -> None:
    with pytest.raises(ArtifactError, match=r"schema.*reads 1"):
        check(build(put(schema, "schema")))


@pytest.mark.parametrize("text", [None, "", "[]", "[" * 100_000, "\xff", "1" * 10_000])
def test_no_report_or_no_json(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError):
        check(tmp_path, max_drop=1.0)


def test_pieces_of_the_wrong_kind_fail_gates_instead_of_crashing(build: Build) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report |= {"accuracy": [], "latency": "fast", "artifact": None}

    result = check(build(spoil), max_drop=1.0, min_agreement=0.5, max_bytes=9, max_latency_ratio=2.0)
    assert [gate.name for gate in result.gates if gate.held] == ["exactness"]


def test_a_key_of_a_later_edgeq_does_no_harm(build: Build) -> None:
    deep: Any = 0
    for _ in range(900):
        deep = [deep]
    assert check(build(put(deep, "added_later")), max_drop=2.0).held


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("accuracy", "n"), 0, "accuracy.n is 0, must be at least 1"),
        (("accuracy", "n"), 10, "images changed"),
        (("accuracy", "agreement"), 2.0, "accuracy.agreement is 2, must be 0 to 1"),
        (("accuracy", "agreement"), 1.0, "images changed"),
        (("accuracy", "integer", "score"), 99.0, "but top1 is"),
        (("accuracy", "difference", "points"), 0.0, "but the scores differ by"),
        (("latency", "ratio"), 0.0, "latency.ratio is 0, must be at least"),
        (("latency", "ratio"), -1.0, "latency.ratio is -1"),
        (("model"), "x" * 20_000, "has 20,000 characters"),
    ],
)
def test_what_cannot_be_is_named(build: Build, path: tuple[str, ...], value: Any, why: str) -> None:
    path = (path,) if isinstance(path, str) else path
    gate = gate_of(check(build(put(value, *path))), "report")
    assert not gate.held
    assert why in str(gate.reason)
