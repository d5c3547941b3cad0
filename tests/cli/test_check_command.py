"""`edgeq check` as typed: limits from options and from the team's file, and the verdict as exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.cli.summary import show_report
from edgeq.cli.verdict import show_check
from edgeq.config.build import Budget
from edgeq.report.check import CheckResult, Gate
from tests.cli.console import one_line, run

pytestmark = pytest.mark.usefixtures("in_a_folder")

Seen = list[tuple[Path, Budget, tuple[str, ...]]]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Seen]:
    """A recording gate in place of the real one, which has its own tests."""

    def install(passed: bool) -> Seen:
        seen: Seen = []

        def check(folder: Path, *, devices: tuple[str, ...], **limits: Any) -> CheckResult:
            seen.append((folder, Budget(**limits), devices))
            return CheckResult("net", "tflite-arm", (Gate("max-drop", 1.0, 0.2, 0.8, passed),))

        monkeypatch.setattr("edgeq.report.check.check", check)
        return seen

    return install


def test_check_passes_limits_on_and_exits_by_the_verdict(gate: Callable[[bool], Seen]) -> None:
    seen = gate(True)
    result = run("check", "build/x", "--max-drop", "1.0", "--min-agreement", "0.97", "--max-bytes", "4M")
    assert (result.exit_code, result.stderr) == (0, "")
    assert seen == [(Path("build/x"), Budget(max_drop=1.0, min_agreement=0.97, max_bytes=4_000_000), ())]
    assert "held" in result.stdout
    gate(False)
    result = run("check", "build/x", "--max-drop", "0.1")
    assert (result.exit_code, "MISSED" in result.stdout) == (1, True)
    result = run("check", "build/x", "--max-drop", "0.1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["passed"], result.stderr) == (1, False, "")


def test_a_missed_limit_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    show_check(CheckResult("n", "t", (Gate("ratio", 1.0, None, None, False, "busy"),)).to_json())
    assert "ratio: busy" in capsys.readouterr().out
    show_check(CheckResult("n", "t", (Gate("min-agreement", 0.99, 0.9985, 0.0085, True),)).to_json())
    assert "0.9985" in capsys.readouterr().out


@pytest.mark.parametrize(("after", "style"), [(15.2, "\x1b[1;31m"), (93.39, "")])
def test_a_great_loss_is_told_first_and_in_red(
    after: float, style: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    scores = {"n": 1000, "float": {"score": 93.4}, "integer": {"score": after}}
    show_report({"model": "net", "target": "tflite-arm", "accuracy": scores, "warnings": ["\x1b[32mpassed"]}, Path("x"))
    said = "".join(capsys.readouterr())
    assert f"{style}Lost {93.4 - after:.2f} points of top-1" in said
    assert said.index("Lost") < said.index("note")
    assert "\x1b[32mpassed" not in said


def test_check_reads_the_team_s_budget(gate: Callable[[bool], Seen]) -> None:
    seen = gate(True)
    Path("edgeq.toml").write_text('model = "net.toml"\n[budget]\nmax_drop = 0.5\nmax_bytes = "300k"\n')
    assert run("check", "build/x", "--max-drop", "2").exit_code == 0
    assert seen[-1][1] == Budget(max_drop=2.0, max_bytes=300_000)


def test_a_check_of_nothing_is_refused(gate: Callable[[bool], Seen]) -> None:
    seen = gate(True)
    one_line(run("check", "build/x"), 2, "nothing to check", "--max-drop")
    one_line(run("check", "build/x", "--max-bytes", "much"), 2, "--max-bytes 'much'", "300k")
    assert seen == []


def test_devices_are_those_named_else_the_team_s(gate: Callable[[bool], Seen]) -> None:
    seen = gate(True)
    Path("edgeq.toml").write_text('device = "pi@board"\n[budget]\nmax_device_drop = 0.5\n')
    assert run("check", "build/x").exit_code == 0
    assert seen[-1][1:] == (Budget(max_device_drop=0.5), ("pi@board",))
    assert run("check", "build/x", "--device", "adb:A", "--device", "adb:B", "--max-device-ms", "3").exit_code == 0
    assert seen[-1][1:] == (Budget(max_device_drop=0.5, max_device_ms=3.0), ("adb:A", "adb:B"))


def test_a_device_without_a_limit_is_refused(gate: Callable[[bool], Seen]) -> None:
    seen = gate(True)
    one_line(
        run("check", "x", "--device", "adb:A", "--max-drop", "1"), 2, "nothing to check on adb:A", "--max-device-drop"
    )
    assert seen == []
