"""Markdown from the rows `build.py` keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cases import Case
from peers.report import HEAD, line, measured

Row = Mapping[str, Any]

COLUMNS = (
    "target",
    "method",
    "top-1 % (difference to float)",
    "agreement %",
    "equal to reference",
    "float ops / transposes / pads / quantize / dequantize",
    "bytes ≤ budget",
    "int8 ms",
    "int8 ÷ float",
    "int8 ÷ peer",
    "build s",
)


def results(cases: Sequence[Case], folder: Path) -> str:
    """Everything measured so far for `cases`: a section per network, its builds, then its peers."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if "-peer-" not in path.name]
    parts = [_preamble(rows)]
    for case in cases:
        own = [row for row in rows if row["network"] == case.name]
        parts.append(f"## {case.name}\n")
        if own:
            parts.append(_floats(own[0]) + "\n")
            parts.append(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
            parts += [_line(row) for row in own]
        else:
            parts.append("Not built yet.")
        peers = measured(case)
        if peers:
            parts.append(f"\n{HEAD}")
            parts += [line(case.name, record) for record in peers]
        parts.append("")
    return "\n".join(parts)


def _preamble(rows: Sequence[Row]) -> str:
    commits = ", ".join(sorted({row["commit"] for row in rows})) or "none"
    machines = sorted({row["machine"] for row in rows})
    return (
        "# Integer models of networks nobody here trained\n\n"
        "`python benchmarks/peers/build.py && python benchmarks/build.py --write`\n\n"
        f"Machine: {'; '.join(machines) or 'nothing measured yet'}. Commit: {commits}.\n"
        "Latency: one thread, interleaved, median of pair ratios, on this host; files for Arm are timed here\n"
        "too, which says nothing about an Arm. Accuracy: the exported file run by its own runtime.\n"
    )


def _floats(row: Row) -> str:
    scores = ", ".join(f"{a['float']['top1']:.2f} % of {label}" for label, a in row["accuracy"].items())
    return f"Float: {scores}; {row['float_bytes']:,} bytes."


def _line(row: Row) -> str:
    census, exact, timed = row["census"], row["exactness"], row["latency"]
    scores = ", ".join(
        f"{label} {a['integer']['top1']:.2f} ({a['integer']['top1'] - a['float']['top1']:+.2f})"
        for label, a in row["accuracy"].items()
    )
    agreement = ", ".join(f"{100 * a['agreement']:.1f}" for a in row["accuracy"].values())
    moved = [census.get(key, 0) for key in ("float_ops", "transposes", "spatial_pads", "quantize", "dequantize")]
    fits = "≤" if row["bytes"] <= row["budget"] else "**>**"
    peers = ", ".join(_against(name, pair) for name, pair in row["against_peers"].items())
    cells = (
        row["target"],
        row["method"],
        scores,
        agreement,
        _exactness(exact),
        " / ".join(str(count) for count in moved),
        f"{row['bytes']:,} {fits} {row['budget']:,.0f}",
        f"{timed['integer_median_ms']:.3f}" if timed else "not measured",
        _ratio(timed["ratio"], valid=timed["valid"]) if timed else "",
        peers or "no peer file",
        f"{row['wall_seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _exactness(exact: Mapping[str, Any] | None) -> str:
    if not exact or not exact.get("values"):
        return "not measured"
    values, equal = exact["values"], exact["equal"]
    share = "all" if equal == values else f"{100 * equal / values:.4f} %"
    return f"{share} of {values:,}, largest step {exact['max_step']} ({exact['reference']})"


def _against(name: str, pair: Mapping[str, Any]) -> str:
    return f"{name} {_ratio(pair['ratio'], valid=not pair['doubts'])}"


def _ratio(ratio: float, *, valid: bool) -> str:
    return f"{ratio:.3f}" if valid else f"{ratio:.3f} (busy machine)"
