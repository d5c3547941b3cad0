"""`edgeq explain`: every code is explained, every explanation is of a code, and lines show theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console import one_line, run

import edgeq
from edgeq.cli.explain import explanations
from edgeq.cli.shell import CODES
from edgeq.errors import EdgeqError
from edgeq.report.locked import NotReproduced
from tools.codes_table import page

SOURCE = Path(edgeq.__file__).parent


def _kinds(base: type[EdgeqError] = EdgeqError) -> Iterator[type[EdgeqError]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("edgeq."):
            yield kind
            yield from _kinds(kind)


def test_every_code_is_explained_and_every_explanation_is_of_a_code() -> None:
    assert NotReproduced in _kinds()
    raised = [kind.code for kind in _kinds()]
    assert len(raised) == len(set(raised))
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    warned = set(re.findall(r'coded\(\s*"(W\d{3})"', text))
    assert set(explanations()) == {*raised, *CODES.values(), *warned}


def test_a_code_begins_with_the_exit_status() -> None:
    assert all(int(kind.code[1]) == kind.exit_status for kind in _kinds())
    assert explanations()["E700"].exit_status == 70
    assert explanations()["W200"].exit_status is None


def test_the_page_is_the_table() -> None:
    written = (SOURCE.parent / "docs" / "reference" / "codes.md").read_text(encoding="utf-8")
    assert written == page(), "run: python tools/codes_table.py > docs/reference/codes.md"


@pytest.mark.parametrize("typed", ["E221", "e221", "[E221]"])
def test_a_code_is_explained_however_it_is_typed(typed: str) -> None:
    result = run("explain", typed)
    assert result.exit_code == 0
    assert result.stdout.startswith("E221: The weights are missing")
    assert "    edgeq build net.py:make --weights checkpoint.pth:model" in result.stdout


def test_all_codes_are_listed_and_a_misspelt_one_is_answered() -> None:
    assert [line.split()[0] for line in run("explain").stdout.splitlines()] == list(explanations())
    assert json.loads(run("explain", "--json").stdout)[0]["code"] == "E100"
    assert json.loads(run("explain", "W200", "--json").stdout)["exit_status"] is None
    one_line(run("explain", "E22"), 2, "no code 'E22'", "[E202]")


def test_lines_show_their_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one_line(run("build", "net.pth", "--plan"), 2, "[E220]")
    one_line(run("build", "--target", "tflite-amr", "--plan"), 2, "[E212]")
    one_line(run("inspect", "gone.tflite"), 2, "[E260]")
    assert run("build", "--nonsense").stderr.rstrip().endswith("[E201]")
