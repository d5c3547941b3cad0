"""The tables of a report's page: numbers of the report in, text by row and column out. The template only draws them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.metric import metric_of, score_of
from edgeq.report.pages.figures import bytes_text, ms_text, share_text, signed_text

__all__ = [
    "Cell",
    "Row",
    "Table",
    "accuracy_table",
    "class_table",
    "devices_table",
    "latency_table",
    "layer_table",
    "regression_table",
]

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """`tone` is a class of the style sheet. `key` says which number of report.json this is."""

    text: str
    tone: str = ""
    key: str = ""


@dataclass(frozen=True)
class Row:
    """`name` heads the row. `is_ours` marks the file that the report is about. `anchor` is the row's id on the page."""

    name: str
    cells: tuple[Cell, ...]
    is_ours: bool = False
    anchor: str = ""


@dataclass(frozen=True)
class Table:
    """`head` are the titles of the cells, that of the row names first. A column without any text is left out."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]


def _table(head: Sequence[str], rows: Iterable[Row]) -> Table:
    rows = tuple(rows)
    kept = [n for n in range(len(head) - 1) if any(row.cells[n].text for row in rows)]
    return Table(
        (head[0], *(head[1 + n] for n in kept)),
        tuple(Row(row.name, tuple(row.cells[n] for n in kept), row.is_ours, row.anchor) for row in rows),
    )


def accuracy_table(report: Section) -> Table:
    """Scores of the float network, the integer file, and the same network calibrated otherwise."""
    accuracy = report["accuracy"]
    before, after = (score_of(accuracy, which) for which in ("float", "integer"))
    head = ("", f"{metric_of(accuracy)} %", "to float", "agreement", "top-5 %")
    rows = [
        Row(
            "float",
            (Cell(f"{before:.2f}", key="accuracy.float.score"), Cell(""), Cell(""), _fixed(accuracy["float"], "top5")),
        ),
        Row(
            f"integer, {report['method']}",
            (
                Cell(f"{after:.2f}", key="accuracy.integer.score"),
                Cell(signed_text(after - before), key="accuracy.difference.points"),
                Cell(share_text(accuracy["agreement"]), key="accuracy.agreement"),
                _fixed(accuracy["integer"], "top5"),
            ),
            is_ours=True,
        ),
    ]
    for other in report["baselines"]:
        agreement = share_text(other["agreement"]) if "agreement" in other else ""
        difference = Cell(signed_text(other["top1"] - before))
        cells = (Cell(f"{other['top1']:.2f}"), difference, Cell(agreement), _fixed(other, "top5"))
        rows.append(Row(f"integer, {other['method']} ({other['images']})", cells))
    return _table(head, rows)


def _fixed(section: Section, key: str) -> Cell:
    value = section.get(key)
    return Cell("" if value is None else f"{value:.2f}")


def class_table(accuracy: Section) -> Table | None:
    """The score of each class, the largest loss first; None where the task has no such scores."""
    before, after = (accuracy[which].get("per_class") for which in ("float", "integer"))
    if before is None or after is None:
        return None
    names = sorted(before, key=lambda name: after[name] - before[name] if name in after else 0.0)
    rows = [
        Row(
            name,
            (Cell(f"{before[name]:.2f}"), Cell(f"{after[name]:.2f}"), Cell(signed_text(after[name] - before[name])))
            if name in after
            else (Cell(f"{before[name]:.2f}"), Cell("–"), Cell("")),
        )
        for name in names
    ]
    return _table(("class", "float", "integer", "to float"), rows)


def regression_table(regression: Section) -> Table:
    """Differences of each output to the float network's, and errors to what is true where that is known."""
    head = ("output", "unit", "difference, mean", "95 % within", "largest", "dB", "float answers", "beyond the file’s")
    rows = []
    for row in regression["outputs"]:
        cells = [Cell(row["unit"])]
        cells += [Cell(f"{row[key]:.3g}") for key in ("mean_difference", "p95_difference", "max_difference")]
        cells += [Cell(f"{row['snr_db']:.1f}"), Cell(f"{row['low']:.4g} to {row['high']:.4g}")]
        cells += [Cell(share_text(row["beyond"]) if row["beyond"] > 0.01 else "", "poor")]
        for key in ("mae", "rmse"):
            cells += [Cell(f"{row[which][key]:.3g}" if which in row else "") for which in ("float", "integer")]
        rows.append(Row(row["name"], tuple(cells)))
    errors = ("mean error, float", "mean error, integer", "RMSE, float", "RMSE, integer")
    return _table((*head, *errors), rows)


def latency_table(latency: Section) -> Table:
    """Times of the float and the integer file on the machine that built them."""
    low, high = latency.get("ratio_interval") or (None, None)
    between = "" if low is None or high is None else f" ({low:.3f}–{high:.3f})"
    times = [
        [Cell(ms_text(latency[key]) if key in latency else "") for key in keys]
        for keys in (
            ("float_median_ms", "float_p90_ms", "float_min_ms"),
            ("integer_median_ms", "p90_ms", "min_ms"),
        )
    ]
    ratio = Cell(f"{latency['ratio']:.3f}{between}", "" if latency["valid"] else "poor", "latency.ratio")
    (before, *rest), (after, *own) = times
    rows = (Row("float", (before, Cell(""), *rest)), Row("integer", (after, ratio, *own), is_ours=True))
    return _table(("", "median ms", "integer ÷ float", "90th percentile", "shortest"), rows)


def devices_table(devices: Sequence[Section]) -> Table:
    """What other machines answered, beside this one, and how long they took."""
    metric = next((row["accuracy"]["metric"] for row in devices if row["accuracy"]), "score")
    rows = []
    for row in devices:
        found, times = row["accuracy"] or {}, row["latency"]
        cells = [_fixed(found, key) for key in ("score", "host_score")]
        cells += [Cell(share_text(found[key]) if found else "") for key in ("agreement", "equal")]
        cells += [Cell(ms_text(times[key]) if times else "") for key in ("integer_median_ms", "float_median_ms")]
        cells += [Cell(f"{times['ratio']:.3f}" if times else "", "" if row["valid"] else "poor")]
        rows.append(Row(row["name"], tuple(cells)))
    head = ("device", f"{metric} %", "here", "answers alike", "values equal", "ms", "float ms", "integer ÷ float")
    return _table(head, rows)


def layer_table(rows: Sequence[tuple[int, Section]], tones: Sequence[str], *, anchored: bool) -> Table:
    """Ops with their numbers, from 1, in the order given. `tones` are those of the rows' errors."""
    made = []
    for (number, row), tone in zip(rows, tones, strict=True):
        bits = (
            f"{letter}{row[f'{kind}_bits']}"
            for letter, kind in (("w", "weight"), ("a", "activation"))
            if f"{kind}_bits" in row
        )
        tensors = [each for each in row.get("tensors", ()) if each != row["name"]]
        cells = (
            Cell(row["name"], "path"),
            Cell(row["op"]),
            Cell(", ".join(tensors), "path"),
            Cell("".join(bits)),
            Cell(f"{row['sqnr_db']:.1f}", tone),
            Cell(share_text(row["saturated"]) if "saturated" in row else ""),
            Cell(bytes_text(row["bytes"]) if row.get("bytes") else ""),
        )
        made.append(Row(str(number), cells, anchor=f"layer-{number}" if anchored else ""))
    return _table(("no.", "layer", "op", "other names in the file", "bits", "dB", "saturated", "size"), made)
