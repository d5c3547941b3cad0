"""JUnit and Markdown of a verdict: whole and escaped, whatever names a report holds."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.report.check import CheckResult
from edgeq.report.gate import Gate
from edgeq.report.junit import junit_xml
from edgeq.report.markdown import escape, verdict_markdown
from edgeq.report.verdict import Judged, Verdict

ATTACKS = [
    "]]></failure><testcase name='x'/>",
    "a\x00\x0b\x1b[31m\ufffe\ud800b",
    "a | b\n| c |",
    "<img src=https://evil.example/x onerror=alert(1)>",
    "![x](https://evil.example/x.png) [y](javascript:alert(1))",
    "`code` **bold** @team #12 $x^2$ ~~no~~",
    "</details></td><script>",
    "\u202eevil",
]


def verdict(text: str) -> Verdict:
    """Two builds that say `text` wherever a report could."""
    gates = (
        Gate(f"max-device-drop {text}", text, text, None, False, reason=text, origin=text),
        Gate("max-drop", 1.0, 0.5, 0.5, True, note=text, undecided=True, origin=text),
        Gate("max-bytes", 10, 5, 5, True, note=text),
    )
    return Verdict([Judged(Path(text), CheckResult(text, text, gates)), Judged(Path("b"), None, text)])


@pytest.mark.parametrize("text", ATTACKS)
def test_an_attack_stays_text(text: str) -> None:
    both(text)


@given(st.text(max_size=30))
def test_any_text_stays_text(text: str) -> None:
    both(text)


def both(text: str) -> None:
    root = fromstring(junit_xml(verdict(text)).encode())  # noqa: S314  # edgeq wrote it
    assert [[case.tag for case in suite] for suite in root] == [["testcase"] * 3, ["testcase"]]
    assert [[each.tag for each in case] for case in root.iter("testcase")] == [
        ["failure"],
        ["skipped"],
        ["system-out"],
        ["error"],
    ]
    assert [suite.attrib["failures"] for suite in root] == ["1", "0"]
    lines = verdict_markdown(verdict(text)).splitlines()
    assert len(lines) == 17
    rows = [line for line in lines if line.startswith("|")]
    assert [row.count("|") for row in rows] == [4] * 4 + [8] * 5
    plain = escape(text)
    assert not set(plain) & set("<>|`*_[]@$#\n\r\x00") - set("#")
    assert "://" not in plain
    assert "javascript:" not in plain


def test_escaped_text_reads_as_it_was() -> None:
    import html

    assert html.unescape(escape("build/net-tflite-arm <b> a_b|c")) == "build/net-tflite-arm <b> a_b|c"
