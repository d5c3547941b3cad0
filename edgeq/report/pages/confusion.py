"""Where float and integer answer differently: the confusion of classes, and images that both see differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.pages.tables import Cell, Row, Table

__all__ = ["Grid", "changed_answers", "confusion_grid", "disagreement_table"]

MOST_ROWS = 10
"""Rows of a table of changes or images; the others are counted."""

MOST_COUNT = 999
"""Largest count that fits into a cell of the grid; beyond it, cells are percentages of their row."""

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """A confusion matrix: `rows` are the true classes with one cell per answer. `unit` says what the cells count."""

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    titles: tuple[tuple[str, ...], ...]
    unit: str


def confusion_grid(confusion: Section, what: str) -> Grid:
    """The integer file's matrix, with what changed from the float network's in the tone of a cell.

    A cell is ``worse`` where an answer that is wrong came more often, or one that is right less often, and ``better``
    the other way round. `what` is counted: images or pixels.
    """
    names, before, after = (confusion[key] for key in ("classes", "float", "integer"))
    is_large = max((max(row, default=0) for row in after), default=0) > MOST_COUNT
    cells, titles = [], []
    for truth, (old_row, new_row) in enumerate(zip(before, after, strict=True)):
        total = sum(new_row) or 1
        line, line_titles = [], []
        for answer, (old, new) in enumerate(zip(old_row, new_row, strict=True)):
            change = (new - old) if truth == answer else (old - new)
            tone = "worse" if change < 0 else "better" if change > 0 else "right" if truth == answer and new else ""
            shown = f"{100 * new / total:.0f}" if is_large else str(new)
            line.append(Cell(shown if new else ("0" if old else ""), tone))
            line_titles.append(f"{names[truth]}, answered {names[answer]}: float {old:,}, integer {new:,}")
        cells.append(tuple(line))
        titles.append(tuple(line_titles))
    unit = f"percent of the {what} of a class" if is_large else what
    return Grid(tuple(names), tuple(cells), tuple(titles), unit)


def changed_answers(confusion: Section) -> Table | None:
    """The answers whose count changed most; None where none did."""
    names, before, after = (confusion[key] for key in ("classes", "float", "integer"))
    changes = [
        (after[truth][answer] - before[truth][answer], truth, answer)
        for truth in range(len(names))
        for answer in range(len(names))
        if after[truth][answer] != before[truth][answer]
    ]
    rows = []
    for change, truth, answer in sorted(changes, key=lambda each: -abs(each[0]))[:MOST_ROWS]:
        is_worse = (change < 0) == (truth == answer)
        counts = (Cell(f"{matrix[truth][answer]:,}") for matrix in (before, after))
        sign = Cell(f"{change:+,}".replace("-", "−"), "poor" if is_worse else "good")
        rows.append(Row(names[truth], (Cell(names[answer]), *counts, sign)))
    return Table(("true class", "answer", "float", "integer", "change"), tuple(rows)) if rows else None


def disagreement_table(accuracy: Section) -> Table | None:
    """The first images that both networks answer differently; None where none are listed."""
    found: Sequence[Section] = accuracy.get("disagreements") or ()
    rows = []
    for row in found[:MOST_ROWS]:
        if "agreement" in row:
            rows.append(Row(f"image {row['image']}", (Cell(f"{100 * row['agreement']:.1f} %"),)))
        else:
            truth = str(row.get("truth", "–"))
            answers = [str(row.get(key, "–")) for key in ("float", "integer")]
            cells = [Cell(truth), *(Cell(answer, _tone(answer, truth)) for answer in answers)]
            rows.append(Row(f"image {row['image']}", tuple(cells)))
    by_share = bool(found) and "agreement" in found[0]
    head: tuple[str, ...] = ("", "alike") if by_share else ("", "true class", "float answers", "integer answers")
    return Table(head, tuple(rows)) if rows else None


def _tone(answer: str, truth: str) -> str:
    return "" if answer == truth else "poor"
