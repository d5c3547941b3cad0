"""A comparison of two builds as tables of text, which the terminal and Markdown show alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.markdown import escape

__all__ = ["TextTable", "compare_markdown", "compare_tables"]

SHOWN = 15
"""Rows of grids and of lock entries that a person reads; --json has more."""

LONGEST = 60
"""Characters of a value of a lock."""

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TextTable:
    """A `title`, `columns`, `rows` of as many texts, and remarks below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def compare_tables(facts: Facts) -> Iterator[TextTable]:
    """Tables of what `compare_builds` returns, the overview first; what is the same in both has none."""
    yield _overview(facts)
    if (grids := _grids(facts["grids"])) is not None:
        yield grids
    if facts["lock"]:
        rows = [[row["entry"], _cut(row["before"]), _cut(row["after"])] for row in facts["lock"][:SHOWN]]
        yield TextTable("What went in", ["entry of the lock", "before", "after"], rows, _more(facts["lock_entries"]))


def compare_markdown(facts: Facts) -> str:
    """The tables as Markdown, escaped."""
    lines = [f"### {escape(facts['before']['folder'])} and {escape(facts['after']['folder'])}", ""]
    for table in compare_tables(facts):
        lines += [f"**{escape(table.title)}**", "", f"| {' | '.join(map(escape, table.columns))} |"]
        lines += [f"|{'---|' * len(table.columns)}", *(f"| {' | '.join(map(escape, row))} |" for row in table.rows), ""]
        lines += [f"{escape(note)}\n" for note in table.notes]
    return "\n".join(lines) + "\n"


def _overview(facts: Facts) -> TextTable:
    one, other, notes = facts["before"], facts["after"], []
    rows = [
        [key, _cut(one[key]), _cut(other[key]), _unlike(one[key], other[key])] for key in ("folder", "model", "target")
    ]
    rows += [
        [key, _cut(one[key]), _cut(other[key]), "other"]
        for key in ("bits", "method", "seed", "edgeq")
        if one[key] != other[key]
    ]
    same = {True: "the same", False: "other", None: "unknown"}
    rows.append(["float network", "", "", same[facts["same_float_network"]]])
    rows.append(["file", _cut(one["file"], 12), _cut(other["file"], 12), same[facts["same_file"]]])
    for what, accuracy in (("score", facts["accuracy"]), ("error", facts["errors"])):
        if accuracy is not None and "what" in accuracy:
            rows.append(_accuracy_row(accuracy))
        if accuracy is not None and accuracy["why"]:
            notes.append(f"{what}: {accuracy['why']}")
    if (accuracy := facts["accuracy"]).get("same") is not None:
        rows.append(["same answers", "", "", f"{100 * accuracy['same']:.2f} % of {accuracy['n']:,} images"])
        rows.append(["changed", "", "", f"{accuracy['gained']} became right, {accuracy['lost']} wrong"])
    if None not in (one["agreement"], other["agreement"]):
        shares = (f"{100 * build['agreement']:.2f} %" for build in (one, other))
        rows.append(["agreement with float", *shares, f"{100 * (other['agreement'] - one['agreement']):+.2f} points"])
    size, latency = facts["size"], facts["latency"]
    rows.append(["bytes", *(_number(size[key], ",.0f") for key in ("before", "after")), _percent(size["ratio"])])
    rows.append(
        ["milliseconds", *(_number(latency[key], ".3f") for key in ("before", "after")), _percent(latency["ratio"])]
    )
    notes += [f"milliseconds: {latency['why']}"] if latency["why"] else []
    notes += [
        f"{each['folder']} has a report with faults: edgeq check names them"
        for each in (one, other)
        if not each["whole"]
    ]
    return TextTable("Builds", ["", "before", "after", "change"], rows, notes)


def _accuracy_row(accuracy: Facts) -> list[str]:
    ratio = accuracy["what"] != "top-1" and "output" in accuracy
    change = f"x {accuracy['value']:.3f}" if ratio else f"{accuracy['value']:+.2f} points"
    if accuracy["low"] is not None:
        change += (
            f" ({accuracy['low']:+.2f} to {accuracy['high']:+.2f}"
            if not ratio
            else f" ({accuracy['low']:.3f} to {accuracy['high']:.3f}"
        )
        change += f", p = {accuracy['p_value']:.2g})" if accuracy["p_value"] is not None else ")"
    form = ".4g" if ratio else ".2f"
    return [accuracy["what"], *(f"{accuracy[key]:{form}}" for key in ("before", "after")), change]


def _grids(grids: Facts) -> TextTable | None:
    columns = ["op", "of", "bits", "scale", "zero point", "integers changed"]
    if "moved" not in grids:
        return TextTable("Grids", columns, [], [f"not compared: {grids['why']}"])
    notes = [f"{grids['moved_grids']} of {grids['grids']} grids moved"]
    for key, words in (("only_before", "only in the first"), ("only_after", "only in the second")):
        if names := grids[key]:
            notes.append(f"{len(names)} ops are {words}: {', '.join(map(_cut, names[:5]))}{', ...' * (len(names) > 5)}")
    return TextTable("Grids", columns, [_grid_row(row) for row in grids["moved"][:SHOWN]], notes)


def _grid_row(row: Facts) -> list[str]:
    bits = (
        str(row["bits_after"])
        if row["bits_before"] == row["bits_after"]
        else f"{row['bits_before']} to {row['bits_after']}"
    )
    shift, share = row["zero_point_shift"], row["integers_changed"]
    return [
        _cut(row["name"]),
        row["place"],
        bits,
        f"{row['scale_before']:.4g} to {row['scale_after']:.4g} ({_percent(row['scale_ratio']) or 'other channels'})",
        "" if shift is None else f"{shift:+d}" if shift else "the same",
        "" if share is None else f"{100 * share:.1f} %",
    ]


def _more(total: int) -> list[str]:
    return [f"and {total - SHOWN} more entries: --json lists them"] if total > SHOWN else []


def _unlike(one: Any, other: Any) -> str:
    return "" if one == other else "other"


def _cut(value: Any, longest: int = LONGEST) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * (ratio - 1):+.1f} %"
