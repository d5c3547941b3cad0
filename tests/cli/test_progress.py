"""Progress on a terminal, in a log, and not at all."""

from __future__ import annotations

import sys
import time

import pytest

from edgeq.cli.progress import Lines, Live, progress
from edgeq.progress import Silent


def test_plain_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shown = Lines()
    shown.stage("synthesize")
    for step in range(1, 9):
        clock[0] += 5.0
        shown.step(step, 8, "batch 1")
    shown.done("synthesize", 40.0, False)
    shown.done("write", 0.0, True)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "synthesize ...",
        "synthesize 2/8, about 30.0 s left (batch 1)",
        "synthesize 4/8, about 20.0 s left (batch 1)",
        "synthesize 6/8, about 10.0 s left (batch 1)",
        "synthesize 40.0 s",
        "write cached",
    ]


def test_time_left_is_not_told_by_what_an_earlier_run_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shown = Lines()
    shown.stage("finetune")
    for step in (150, 151, 152):
        clock[0] += 10.0
        shown.step(step, 162)
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert lines[1:] == [
        "finetune 150/162",
        "finetune 151/162, about 1 min 50 s left",
        "finetune 152/162, about 1 min 40 s left",
    ]


def test_live_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Live() as shown:
        shown.stage("capture")
        shown.step(1, 2, "one")
        shown.done("capture", 125.0, False)
        shown.stage("write")
        shown.done("write", 0.0, True)
    text = capsys.readouterr().err
    assert "2 min 5 s" in text
    assert "cached" in text


def test_progress_suits_the_occasion(monkeypatch: pytest.MonkeyPatch) -> None:
    with progress(quiet=True) as shown:
        assert isinstance(shown, Silent)
    with progress(quiet=False) as shown:
        assert isinstance(shown, Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(quiet=False) as shown:
        assert isinstance(shown, Live)
