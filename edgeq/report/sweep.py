"""The table of a sweep: what each build came to, and which of them nothing beats."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgeq.config.sweep import Sweep
from edgeq.report.fields import SCHEMA
from edgeq.report.pages.index import IndexRow, index_rows

__all__ = ["SweepRow", "sweep_csv", "sweep_json", "sweep_rows"]


class Ended(Protocol):
    """What a build of a sweep came to."""

    @property
    def name(self) -> str: ...
    @property
    def word(self) -> str: ...
    @property
    def error(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def stages(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class SweepRow:
    """One build: its place on the axes, what it came to, what its report says, and whether it is on the `front`.

    On the front are the builds for one target and task that no other beats: none has at least the same score, as small
    a file and as short a time, and is better in one of them.
    """

    name: str
    axes: Mapping[str, str]
    word: str
    error: str
    seconds: float
    stages: Mapping[str, str]
    built: IndexRow
    front: bool = False


def sweep_rows(sweep: Sweep, ended: Sequence[Ended]) -> list[SweepRow]:
    """A row for each build, in the order of the file. Reports that cannot be read are errors of their rows."""
    done = [sweep.folder(one.name) for one in ended if one.word == "done"]
    reports = {row.path: row for row in index_rows(done)}
    front = {row.path for row in _front([row for row in reports.values() if not row.error])}
    rows = []
    for planned, one in zip(sweep.builds, ended, strict=True):
        folder = sweep.folder(one.name)
        built = reports.get(folder, IndexRow(one.name, folder, target=planned.config.target))
        error = built.error or one.error
        word = "failed" if built.error else one.word
        rows.append(SweepRow(one.name, planned.axes, word, error, one.seconds, one.stages, built, folder in front))
    return rows


def _front(rows: Sequence[IndexRow]) -> list[IndexRow]:
    """Those that no other row of the same target and metric beats. A row without a score or a size is on no front."""
    known = [row for row in rows if row.score is not None and row.bytes is not None]
    return [row for row in known if not any(_beats(other, row) for other in known)]


def _beats(one: IndexRow, other: IndexRow) -> bool:
    if (one.target, one.metric, one.n) != (other.target, other.metric, other.n):
        return False
    pairs = [(-_number(one.score), -_number(other.score)), (_number(one.bytes), _number(other.bytes))]
    if one.milliseconds is not None and other.milliseconds is not None and not one.doubt and not other.doubt:
        pairs.append((one.milliseconds, other.milliseconds))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _number(value: float | None) -> float:
    return 0.0 if value is None else value


def sweep_json(rows: Sequence[SweepRow]) -> dict[str, Any]:
    """What `edgeq sweep report --json` prints, and sweep.json holds."""
    return {"schema": SCHEMA, "builds": [_facts(row) for row in rows]}


def _facts(row: SweepRow) -> dict[str, Any]:
    built = {key: value for key, value in vars(row.built).items() if key not in ("path", "error", "folder")}
    facts = {"name": row.name, "axes": dict(row.axes), "state": row.word, "error": row.error or None}
    return facts | {"seconds": round(row.seconds, 3), "stages": dict(row.stages), "front": row.front} | built


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """The same as a table for spreadsheets, a line for each build. No cell is read as a formula."""
    axes = list(dict.fromkeys(axis for row in rows for axis in row.axes))
    columns = ["metric", "n", "score", "base", "points", "bytes", "float_bytes", "milliseconds", "ratio", "doubt"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", *axes, "state", "error", "seconds", "front", *columns])
    for row in rows:
        facts = _facts(row)
        cells = [row.name, *(row.axes.get(axis, "") for axis in axes), row.word, row.error, facts["seconds"]]
        writer.writerow([_plain(cell) for cell in [*cells, int(row.front), *(facts[key] for key in columns)]])
    return text.getvalue()


def _plain(cell: Any) -> Any:
    """A text that a spreadsheet would compute, such as ``=1+1``, is made one that it shows."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
