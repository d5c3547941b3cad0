"""Figures on pages: every table of them is a copy of one in benchmarks/results/, made by tools/figures.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import figures, reference

ROOT = Path(__file__).parent.parent
PAGES = [str(page.relative_to(ROOT)) for page in figures.pages()]
PRINTED = {f"docs/reference/{name}" for name in ("ops.md", *reference.PAGES)}
"""Pages that another test compares with the program that prints them."""


@pytest.mark.parametrize("page", PAGES)
def test_tables_of_figures_are_copies(page: str) -> None:
    assert figures.filled(ROOT / page) == (ROOT / page).read_text(encoding="utf-8"), "run: python tools/figures.py"


@pytest.mark.parametrize("page", sorted(set(PAGES) - PRINTED))
def test_no_figures_stand_outside_of_blocks(page: str) -> None:
    assert figures.loose_figures(ROOT / page) == []


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    (tmp_path / "run.md").write_text(
        "Commit: 0123abc.\n\n## first\n\n| network | top-1 |\n|---|---|\n| resnet8 | 12.5 (a) |\n| other | 99 |\n"
        "\n## second\n\nmachine, commit 4567def.\n\n| network | top-1 |\n|---|---|\n| resnet8 | 77 |\n"
    )
    return tmp_path / "page.md"


def test_a_block_takes_columns_rows_and_commits(page: Path) -> None:
    said = 'file = "run.md"\nunder = "first"\ncolumns = ["network", "top-1 as score"]\n'
    said += 'rows = { network = ["resnet8"] }\n'
    page.write_text(f"<!-- figures\n{said}brief = true\n-->\n| old | 1 |\n<!-- end -->\nafter\n")
    text = figures.filled(page)
    assert "| network | score |\n|---|---|\n| ResNet-8, MLPerf Tiny | 12.5 |\n" in text
    assert "Source: [run.md](run.md), printed at 0123abc." in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nafter\n")
    page.write_text(text)
    assert figures.filled(page) == text
    assert figures.loose_figures(page) == []


def test_a_section_has_its_own_commits(page: Path) -> None:
    page.write_text('<!-- figures\nfile = "run.md"\nunder = "second"\ncolumns = ["top-1"]\n-->\n<!-- end -->\n')
    assert "printed at 4567def." in figures.filled(page)


@pytest.mark.parametrize(
    ("said", "why"),
    [('columns = ["top-5"]', "has no table"), ('columns = ["top-1"]\nrows = { network = ["resnet9"] }', "no row")],
)
def test_a_block_that_fits_no_table_is_refused(page: Path, said: str, why: str) -> None:
    page.write_text(f'<!-- figures\nfile = "run.md"\n{said}\n-->\n<!-- end -->\n')
    with pytest.raises(SystemExit, match=why):
        figures.filled(page)


def test_a_number_typed_by_hand_is_found(page: Path) -> None:
    page.write_text("| network | top-1 | what |\n|---|---|---|\n| a | 81.19 ± 0.08 | b |\n| 5 | w8a8 | 4 MiB |\n")
    assert figures.loose_figures(page) == ["a | 81.19 ± 0.08 | b"]
