"""The page of `edgeq report`: several builds in one table by model and target, each with a link to its own report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgeq.errors import ArtifactError, coded
from edgeq.report.fields import SCHEMA
from edgeq.report.lock import portable
from edgeq.report.loss import loss_of
from edgeq.report.metric import metric_of, score_of
from edgeq.report.pages.report import template
from edgeq.report.reading import SoundReport, finite

__all__ = ["IndexRow", "index_json", "index_rows", "render_index"]


@dataclass(frozen=True)
class IndexRow:
    """What the table says of one build; None for what was not measured, or is faulty in its report.

    `score`, `base` (the float network's) and `points` are of the task's `metric`; `quality` says in words how far real
    values are from the float network's. `grade` is that of the loss (`edgeq.report.loss`), `doubt` why the latency must
    not be believed. `error` says why the build could not be read.
    """

    folder: str
    path: Path
    model: str = "unknown"
    target: str = ""
    bits: str = ""
    metric: str = ""
    n: float | None = None
    score: float | None = None
    base: float | None = None
    points: float | None = None
    quality: str = ""
    grade: str = ""
    bytes: float | None = None
    float_bytes: float | None = None
    milliseconds: float | None = None
    ratio: float | None = None
    doubt: str = ""
    exact: float | None = None
    faults: int = 0
    error: str = ""

    @property
    def smaller(self) -> float | None:
        """How many times smaller the file is than the float one."""
        return self.float_bytes / self.bytes if self.float_bytes and self.bytes else None


def index_rows(folders: Sequence[Path]) -> list[IndexRow]:
    """A row per build, by model and then by target. A build that cannot be read has an `error`, and comes last."""
    rows = [_row(folder) for folder in folders]
    return sorted(rows, key=lambda row: (bool(row.error), row.model, row.target, row.folder))


def _row(folder: Path) -> IndexRow:
    name = str(portable(folder))
    try:
        report = SoundReport.read(folder)
    except ArtifactError as error:
        return IndexRow(name, folder, error=coded(error.code, str(error)))
    accuracy = report.section("accuracy") or {}
    base, score = (finite(score_of(accuracy, which)) for which in ("float", "integer"))
    loss = None if report.faults else loss_of({"accuracy": report.section("accuracy")})
    values, equal = (report.number("exactness", key) for key in ("values", "equal"))
    return IndexRow(
        name,
        folder,
        model=report.text("model"),
        target=report.text("target"),
        bits=report.text("bits"),
        metric=metric_of(accuracy) if accuracy else "",
        n=finite(accuracy.get("n")),
        score=score,
        base=base,
        points=None if base is None or score is None else score - base,
        quality=_quality(report),
        grade=loss.grade if loss is not None else "",
        bytes=report.number("artifact", "bytes"),
        float_bytes=report.number("float", "bytes"),
        milliseconds=report.number("latency", "integer_median_ms"),
        ratio=report.number("latency", "ratio"),
        doubt=report.latency_doubt(),
        exact=equal / values if values and equal is not None else None,
        faults=len(report.faults),
    )


def _quality(report: SoundReport) -> str:
    """The worst output of a regressor, or the cosine that most embeddings reach."""
    outputs = report.value("regression", "outputs")
    known = [finite(row.get("snr_db")) for row in outputs or () if isinstance(row, Mapping)]
    if known and None not in known:
        return f"{min(value for value in known if value is not None):.1f} dB"
    cosine = report.number("embedding", "cosine_p5")
    return "" if cosine is None else f"cosine {cosine:.4f}"


def index_json(rows: Sequence[IndexRow]) -> dict[str, Any]:
    """What `edgeq report --json` prints."""
    return {"schema": SCHEMA, "builds": [{k: v for k, v in vars(row).items() if k != "path"} for row in rows]}


def render_index(rows: Sequence[IndexRow], page: Path) -> str:
    """The page, to be written to `page`: links to the reports are relative to its folder."""
    models: dict[str, list[IndexRow]] = {}
    for row in rows:
        if not row.error:
            models.setdefault(row.model, []).append(row)
    links = {row.path: _link(row.path / "report.html", page) for row in rows}
    errors = [row for row in rows if row.error]
    return template("index.html.j2").render(models=models, links=links, errors=errors, rows=rows)


def _link(report: Path, page: Path) -> str:
    """The address of `report` as seen from `page`; empty where there is no such file."""
    if not report.is_file():
        return ""
    return quote(Path(os.path.relpath(report, page.absolute().parent)).as_posix())
