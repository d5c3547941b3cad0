"""The page of `edgeq bench --html`: every measurement in the table, bars for those that have times, markup for none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgeq.measure.latency import latency_facts
from edgeq.report.pages.bench import render_comparison
from tests.report.test_devices import ATTACK, bench

ALONE = latency_facts([], [4.0] * 5, inferences=1, threads=1, doubts=()) | {"p90_ms": None}


def _result(artifact: str, device: str, **changes: Any) -> dict[str, Any]:
    return {"artifact": artifact, "device": device, **bench(**changes)}


def _charts(text: str) -> list[str]:
    """What each section with bars compares."""
    return [title for title, body in re.findall(r"<h2>(.*?)</h2>(.*?)</section>", text, re.DOTALL) if "<svg" in body]


@pytest.mark.parametrize(
    ("artifacts", "devices", "charts"),
    [("a", "1", ["a"]), ("ab", "1", ["1"]), ("a", "12", ["a"]), ("ab", "12", ["a", "b", "1", "2"])],
)
def test_what_there_are_several_of_is_compared(artifacts: str, devices: str, charts: list[str]) -> None:
    results = [_result(artifact, device) for artifact in artifacts for device in devices]
    text = render_comparison(results)
    assert _charts(text) == charts
    assert text.count("<tr><th>") == len(results) + 1
    assert text.count("<h3>") == len(results)


def test_repeats_are_told_apart() -> None:
    text = render_comparison([_result("a", "pi"), _result("a", "pi")])
    assert "pi, again (2): integer 4 ms" in text


def test_a_file_timed_alone_is_no_integer_file() -> None:
    text = render_comparison([_result("theirs.tflite", "pi", latency=ALONE)])
    assert "pi: file 4 ms" in text
    assert "pi: integer" not in text


def test_emulated_devices_have_a_line_and_no_bar() -> None:
    emulated = _result("a", "emulator:cortex-a72", latency=None, valid=False, doubts=["emulated: no times"])
    text = render_comparison([_result("a", "pi"), emulated])
    assert text.count("<rect") == 2
    assert "emulated: no times</text>" in text
    assert _charts(render_comparison([emulated])) == []


def test_names_are_text() -> None:
    assert ATTACK not in render_comparison([_result(ATTACK, ATTACK, valid=False, doubts=[ATTACK], notes=[ATTACK])])
