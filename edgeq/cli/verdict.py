"""What a person reads after a check: every limit of one build, or one line for each of several builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from edgeq.cli.summary import WIDTH, flat
from edgeq.cli.terminal import console, join_styled

__all__ = ["show_check", "show_checks"]

Facts = Mapping[str, Any]
"""A build or a limit, as `edgeq check --json` prints it."""


def show_check(build: Facts) -> None:
    """What held and by how much, a line per limit, then the verdict."""
    out = console(width=WIDTH)  # a summary is the result of its command
    rows = build["rows"]
    several = len({row["from"] for row in rows if row["from"]}) > 1
    table = Table(box=None, padding=(0, 2))
    for title in ("", "limit", "value", "margin", "", *(["set in"] if several else [])):
        table.add_column(title, justify="right" if title in ("limit", "value", "margin") else "left", overflow="fold")
    for row in rows:
        numbers = (_format_measured(row[key]) for key in ("limit", "value", "margin"))
        table.add_row(str(row["name"]), *numbers, _word(row), *([row["from"] or ""] if several else []))
    out.print(table)
    for row in rows:
        if remark := _remark(row):
            out.print(f"  {row['name']}: {remark}", soft_wrap=True)
    missed, open_ones = (sum(_is(row, word) for row in rows) for word in ("missed", "not decided"))
    undecided = f", {open_ones} not decided" if open_ones else ""
    out.print(f"passed{undecided}" if build["passed"] else f"failed: {missed} of {len(rows)} limits missed{undecided}")


def show_checks(builds: Sequence[Facts]) -> None:
    """A line per build with its verdict, then every limit that did not simply hold."""
    out = console(width=WIDTH)
    table = Table(box=None, padding=(0, 2))
    for title in ("build", "verdict", "held", "missed", "not decided"):
        table.add_column(title, justify="left" if title in ("build", "verdict") else "right")
    for build in builds:
        words = ("held", "missed", "not decided")
        counts = (str(sum(_is(row, word) for row in build["rows"])) for word in words)
        verdict = ("passed", "green") if build["passed"] else ("ERROR" if build["error"] else "FAILED", "red")
        table.add_row(str(build["folder"]), join_styled(verdict), *counts)
    out.print(table)
    for build in builds:
        for row in build["rows"]:
            if remark := _remark(row):
                values = f"{_format_measured(row['value'])} of {_format_measured(row['limit'])}, {_word(row)}"
                out.print(f"  {build['folder']}: {row['name']} {values}: {remark}", soft_wrap=True)


def _is(row: Facts, word: str) -> bool:
    return word == ("missed" if not row["passed"] else "held" if row["decided"] else "not decided")


def _word(row: Facts) -> Text:
    if not row["passed"]:
        return join_styled(("MISSED", "red"))
    return join_styled(("held", "green") if row["decided"] else ("not decided", "yellow"))


def _remark(row: Facts) -> str | None:
    remark: str | None = row["note"] if row["passed"] else row["reason"]
    return remark


def _format_measured(value: Any) -> str:
    """A value beside its limit: 0.9985 of 0.99 must not read as 1.00 of 0.99."""
    return f"{value:,.4f}" if isinstance(value, float) else flat(value)
