"""The page of several builds: the numbers of their reports, links to their pages, and no markup of theirs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from edgeq.report.pages.index import index_rows, render_index
from tests.cli.console import one_line, run
from tests.report.fakebuild import write_answered, write_build
from tests.report.test_devices import ATTACK


class _Rows(HTMLParser):
    """The cells of every table row of a page, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a":
            self.links.append(str(dict(attrs)["href"]))

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += " ".join(data.split())


def named(model: str, target: str, **changes: Any) -> Any:
    return lambda report: report.update(model=model, target=target, **changes)


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my builds"
    write_answered(folder / "b #1", range(20), spoil=named("beta", "onnx-x86"))
    write_answered(folder / "a", range(2), spoil=named("beta", "tflite-arm"))
    write_build(folder / "c", named("alpha", "tflite-arm"), accuracy=None)
    for build in folder.iterdir():
        (build / "report.html").write_text("a report")
    return folder


def test_the_table_has_the_numbers_of_the_reports(builds: Path, tmp_path: Path) -> None:
    result = run("report", "my builds", "-o", "page.html", "--json")
    assert (result.exit_code, result.stderr) == (0, "page page.html\n")
    rows = json.loads(result.stdout)["builds"]
    assert [(row["model"], row["target"]) for row in rows] == [
        ("alpha", "tflite-arm"),
        ("beta", "onnx-x86"),
        ("beta", "tflite-arm"),
    ]
    page = _Rows((tmp_path / "page.html").read_text())
    cells = [row for row in page.rows if row[0] != "target"]
    assert [row[:4] for row in cells] == [
        ["tflite-arm", "w8a8", "–", "–"],
        ["onnx-x86", "w8a8", "90.00 %", "−10.00"],
        ["tflite-arm", "w8a8", "99.00 %", "−1.00"],
    ]
    assert cells[0][4:6] == ["2.40 MB", "3.8 ×"]
    assert [(tmp_path / unquote(link)).read_text() for link in page.links] == ["a report"] * 3
    assert run("report", str(builds), "-o", str(builds / "index.html")).exit_code == 0
    assert _Rows((builds / "index.html").read_text()).links[0] == "c/report.html"


def test_a_great_loss_is_red(builds: Path) -> None:
    page = render_index(index_rows([builds / "b #1"]), builds / "index.html")
    assert re.search(r'<td class="poor">−10\.00</td>', page)


def test_a_build_that_cannot_be_read_is_named_and_is_exit_2(builds: Path) -> None:
    (builds / "a" / "report.json").write_text("{")
    result = run("report", "my builds")
    assert result.exit_code == 2
    one_line(result, 2, "my builds/a/report.json cannot be read")
    assert "beta" in result.stdout
    assert "my builds/a/report.json cannot be read" in Path("builds.html").read_text()
    Path("builds.html").unlink()
    one_line(run("report", "my builds/a"), 2, "cannot be read")
    one_line(run("report", "none"), 2, "none holds no report.json")
    one_line(run("report", "my builds", "-o", "my builds"), 2, "cannot write my builds: it is a folder")
    assert not Path("builds.html").exists()


def test_names_are_text(builds: Path) -> None:
    write_build(builds / "d", named(ATTACK, ATTACK, bits=ATTACK, accuracy=ATTACK, latency=ATTACK))
    (builds / "e<b>").mkdir()
    (builds / "e<b>" / "report.json").write_text(ATTACK)
    rows = index_rows([builds / "d", builds / "e<b>"])
    page = render_index(rows, builds / "index.html")
    assert ATTACK not in page
    assert "<b>" not in page
    assert "the report has faults" in page
