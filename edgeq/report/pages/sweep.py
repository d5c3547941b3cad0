"""The page of a sweep: a table per target with its front, accuracy against size, and what failed and why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edgeq.report.pages.report import template
from edgeq.report.sweep import SweepRow

__all__ = ["render_sweep"]

WIDTH, HEIGHT, MARGIN = 640.0, 220.0, 40.0


@dataclass(frozen=True)
class Dot:
    """A build on the plane of size (to the right) and score (up), in SVG user units."""

    x: float
    y: float
    front: bool
    text: str


def render_sweep(name: str, rows: Sequence[SweepRow], page: Path) -> str:
    """The page of the sweep called `name`, to be written to `page`: links are relative to its folder."""
    groups: dict[tuple[str, str], list[SweepRow]] = {}
    for row in rows:
        if row.word == "done":
            groups.setdefault((row.built.target, row.built.metric), []).append(row)
    tables = [
        {"target": target, "metric": metric, "rows": found, "dots": _dots(found)}
        for (target, metric), found in groups.items()
    ]
    links = {row.name: _link(row.built.path / "report.html", page) for row in rows}
    others = [row for row in rows if row.word != "done"]
    return template("sweep.html.j2").render(
        name=name, tables=tables, links=links, others=others, rows=rows, width=WIDTH, height=HEIGHT, margin=MARGIN
    )


def _dots(rows: Sequence[SweepRow]) -> list[Dot]:
    known = [(row, row.built.score, row.built.bytes) for row in rows]
    placed = [(row, score, size) for row, score, size in known if score is not None and size is not None]
    if len(placed) < 2:
        return []
    scores, sizes = [score for _, score, _ in placed], [size for _, _, size in placed]
    return [
        Dot(
            MARGIN + (WIDTH - 2 * MARGIN) * _share(size, sizes),
            HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * _share(score, scores),
            row.front,
            f"{row.name}: {score:.2f} %, {size:,.0f} bytes",
        )
        for row, score, size in placed
    ]


def _share(value: float, among: Sequence[float]) -> float:
    low, high = min(among), max(among)
    return (value - low) / (high - low) if high > low else 0.5


def _link(report: Path, page: Path) -> str:
    if not report.is_file():
        return ""
    return quote(Path(os.path.relpath(report, page.absolute().parent)).as_posix())
