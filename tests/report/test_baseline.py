"""Builds against a baseline: image by image where both answered the same images, and said to be open where not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.measure.answers import Answers
from edgeq.report.check import CheckResult, Gate, check
from tests.report.fakebuild import write_answered, write_build


def held_to(after: Path, before: Path, **limits: Any) -> CheckResult:
    return check(after, against=True, baseline=before, **limits)


def drop(after: Path, before: Path, **limits: Any) -> Gate:
    (gate,) = (gate for gate in held_to(after, before, **limits).gates if gate.name == "max-baseline-drop")
    return gate


@pytest.mark.parametrize(
    ("n", "before", "after", "limit", "word", "said"),
    [
        (200, range(10), range(10), None, "held", "+0.00 (+0.00 to +0.00"),
        (200, range(10), range(40), None, "missed", "is worse than the baseline: +15.00"),
        (200, range(10), range(13), None, "not decided", "not decided with n = 200: n = "),
        (200, range(10), range(8), 5.0, "held", "exact McNemar test"),
        (2000, range(100), range(99), None, "held", "n = 2,000"),
        (2000, range(100), range(120), 1.0, "not decided", "no number of images would decide"),
        (2000, range(100), range(150), 1.0, "missed", "p = "),
        (2000, range(100), range(150), 5.0, "held", "p = "),
    ],
)
def test_a_loss_is_held_missed_or_not_decided(
    n: int, before: range, after: range, limit: float | None, word: str, said: str, tmp_path: Path
) -> None:
    one, other = write_answered(tmp_path / "one", before, n), write_answered(tmp_path / "other", after, n)
    gate = drop(other, one, max_baseline_drop=limit)
    assert gate.word == word, gate
    assert said in (gate.reason or gate.note or "")
    assert gate.value == pytest.approx(100 * (len(after) - len(before)) / n)
    assert held_to(other, one, max_baseline_drop=limit).held == (word != "missed")


def test_the_number_of_images_that_would_decide_does(tmp_path: Path) -> None:
    """Three of 200 images became wrong: with as many of a hundred images as is said, the loss is shown."""
    one, other = write_answered(tmp_path / "one", ()), write_answered(tmp_path / "other", range(6))
    gate = drop(other, one, max_baseline_drop=0.5)
    needed = int(str(gate.note).split("n = ")[2].split(" would")[0].replace(",", ""))
    assert 200 < needed < 2000
    one = write_answered(tmp_path / "one", (), needed)
    other = write_answered(tmp_path / "other", range(round(needed * 6 / 200)), needed)
    assert drop(other, one, max_baseline_drop=0.5).word == "missed"


def test_an_old_baseline_without_answers_is_compared_as_far_as_scores_allow(tmp_path: Path) -> None:
    def old(name: str, wrong: range) -> Path:
        folder = write_answered(tmp_path / name, wrong)
        (folder / "answers.safetensors").unlink()
        lock = json.loads((folder / "edgeq.lock").read_text())
        del lock["files"]["answers.safetensors"]
        (folder / "edgeq.lock").write_text(json.dumps(lock))
        return folder

    good = write_answered(tmp_path / "good", range(10))
    gate = drop(good, old("old", range(12)))
    assert gate.word == "not decided"
    assert str(gate.note).startswith("cannot be decided: ")
    assert str(gate.note).endswith("the baseline holds no per-image answers")
    assert drop(write_answered(tmp_path / "ruined", range(180)), old("old", range(12))).word == "missed"


def test_answers_that_are_not_to_be_believed_decide_nothing(tmp_path: Path) -> None:
    good = write_answered(tmp_path / "good", range(10))
    other = write_answered(tmp_path / "other", range(60))
    (other / "answers.safetensors").write_bytes((good / "answers.safetensors").read_bytes())
    assert "other per-image answers than its lock names" in str(drop(good, other).note)
    report = json.loads((other / "report.json").read_text())
    forged = write_build(tmp_path / "forged", lambda r: r.update(report), (good / "answers.safetensors").read_bytes())
    assert "contradict its report" in str(drop(good, forged).note)
    garbage = write_build(tmp_path / "garbage", lambda r: r.update(report), b'\x08\0\0\0\0\0\0\0{"a":1} ')
    assert "cannot be read" in str(drop(good, garbage).note)


def test_other_images_decide_nothing(tmp_path: Path) -> None:
    one = write_answered(tmp_path / "one", range(10))
    gate = drop(write_answered(tmp_path / "other", range(150), images="cd" * 32), one)
    assert (gate.word, gate.value) == ("not decided", None)
    assert "different images" in str(gate.note)


def test_accuracy_that_was_no_longer_measured_is_missed(tmp_path: Path) -> None:
    one, other = write_answered(tmp_path / "one", ()), write_build(tmp_path / "other", accuracy=None)
    assert drop(other, one).word == "missed"
    assert drop(one, other).word == "not decided"


def test_sizes_and_latencies_under_the_same_conditions(tmp_path: Path) -> None:
    one, other = write_answered(tmp_path / "one", ()), write_answered(tmp_path / "other", ())
    limits = {"max_baseline_size_ratio": 0.9, "max_baseline_latency_ratio": 1.1}
    *_, size, latency = held_to(other, one, **limits).gates
    assert (size.name, size.word, size.value) == ("max-baseline-size-ratio", "missed", 1.0)
    assert (latency.name, latency.word, latency.value) == ("max-baseline-latency-ratio", "held", 1.0)

    def elsewhere(report: dict[str, Any]) -> None:
        report["latency"]["threads"] = 4
        report["latency"]["conditions"]["cpu"] = "Another"

    write_answered(tmp_path / "other", (), spoil=elsewhere)
    latency = held_to(other, one, **limits).gates[-1]
    assert (latency.word, latency.value) == ("not decided", None)
    assert "other conditions: threads 1 against 4, cpu Some Board, Cortex-A76 against Another" in str(latency.note)


def test_what_went_into_the_builds_is_compared(tmp_path: Path) -> None:
    one = write_answered(
        tmp_path / "one", (), lock={"config": {"seed": 0, "method": "gznq"}, "packages": {"torch": "1"}}
    )
    other = write_answered(
        tmp_path / "other", (), lock={"config": {"seed": 1, "method": "gznq"}, "packages": {"torch": "2"}}
    )
    (row,) = (gate for gate in held_to(other, one).gates if gate.name == "baseline")
    assert row.note == "the locks differ in config.seed, packages.torch"


def test_a_build_without_a_baseline_is_not_decided(tmp_path: Path) -> None:
    gate = check(write_answered(tmp_path / "one", ()), against=True, baseline=None).gates[-1]
    assert (gate.name, gate.word) == ("baseline", "not decided")
    gate = check(tmp_path / "one", against=True, baseline=tmp_path / "none").gates[-1]
    assert (gate.name, gate.word) == ("baseline", "not decided")


@pytest.mark.parametrize(("metric", "held"), [("mAP@0.5", "held"), ("mIoU", "not decided")])
def test_scores_without_single_answers_still_show_a_ruined_model(metric: str, held: str, tmp_path: Path) -> None:
    def scored(name: str, score: float) -> Path:
        accuracy = {"metric": metric, "n": 100, "float": {"score": 70.0}, "integer": {"score": score}}
        section = accuracy | {"agreement": 0.9, "difference": {"points": score - 70.0}, "sha256": "ab" * 32}
        data = Answers("ab" * 32, {"difference": np.ones((3, 1))}).to_bytes() if metric == "mAP@0.5" else None
        return write_build(tmp_path / name, lambda report: report.update(accuracy=section), data)

    good = scored("good", 69.0)
    assert drop(scored("same", 68.5), good).word == held
    gate = drop(scored("ruined", 10.0), good)
    assert (gate.word, gate.value) == ("missed", 59.0)
    assert "by both scores alone" in str(gate.reason)


def test_the_same_answers_of_another_file_are_not_the_same_model(tmp_path: Path) -> None:
    """No changed answer among few images leaves open how many would change among more."""

    def rebuilt(report: dict[str, Any]) -> None:
        report["artifact"]["sha256"] = "0" * 64

    one, other = write_answered(tmp_path / "one", (), 20), write_answered(tmp_path / "other", (), 20, spoil=rebuilt)
    assert drop(other, one).word == "not decided"
    assert drop(one, one).word == "held"
