"""A verdict as Markdown, for ``$GITHUB_STEP_SUMMARY`` or a comment on a merge request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from edgeq.errors import printable
from edgeq.report.gate import Gate
from edgeq.report.verdict import Judged, Verdict

__all__ = ["escape", "verdict_markdown"]

_MARKS = re.compile(r"[\\`*_\[\]|~$#@:!]")

_SIGNS = {"passed": "✅", "failed": "❌", "error": "❌", "held": "✅", "missed": "❌", "not decided": "⚠️"}


def escape(text: str) -> str:
    """`text` as itself: no markup, link, picture, mention or HTML in it is obeyed, and it stays in its table cell."""
    plain = html.escape(printable(" ".join(text.split())))
    return _MARKS.sub(lambda mark: f"&#{ord(mark.group())};", plain.replace("&#x27;", "'").replace("&quot;", '"'))


def verdict_markdown(verdict: Verdict) -> str:
    """A heading with the verdict, a table of builds, and a table of limits for each build, open where one missed."""
    lines = [f"### edgeq check: {'passed' if verdict.passed else 'failed'}", "", "| build | verdict | limits |"]
    lines += ["|---|---|---|", *(_build_row(build) for build in verdict.builds), ""]
    for build in verdict.builds:
        lines += _details(build)
    return "\n".join(lines) + "\n"


def _build_row(build: Judged) -> str:
    gates = build.result.gates if build.result is not None else ()
    words = [gate.word for gate in gates]
    counts = [f"{words.count(word)} {word}" for word in ("held", "missed", "not decided") if word in words]
    shown = escape(build.error) if build.error else ", ".join(counts)
    return f"| {escape(build.name)} | {_SIGNS[build.word]} {build.word} | {shown} |"


def _details(build: Judged) -> Iterator[str]:
    if build.result is None:
        return
    yield f"<details{'' if build.held else ' open'}><summary>{escape(build.name)}</summary>"
    yield ""
    yield "| name | verdict | limit | value | margin | set in | remark |"
    yield "|---|---|---|---|---|---|---|"
    yield from map(_gate_row, build.result.gates)
    yield ""
    yield "</details>"
    yield ""


def _gate_row(gate: Gate) -> str:
    remark = gate.reason if gate.word == "missed" else gate.note
    cells = [gate.name, "", *(_number(each) for each in (gate.limit, gate.value, gate.margin)), gate.origin, remark]
    shown = [escape(cell or "") for cell in cells]
    shown[1] = f"{_SIGNS[gate.word]} {gate.word}"
    return f"| {' | '.join(shown)} |"


def _number(value: float | int | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
