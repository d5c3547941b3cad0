"""The network as a report's page draws it: a strip of layers coloured by error, and the layers that take most room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.pages.figures import bytes_text
from edgeq.report.pages.tables import Table, layer_table

__all__ = ["FAIR", "POOR", "Block", "Share", "layer_strip", "layers_table", "noisiest_table", "sizes"]

POOR, FAIR = 10.0, 20.0
"""Decibels: noise is a third, and a tenth, of the signal's amplitude."""

WORST = 8
"""Layers listed by name below the strip, and by size."""

MOST_ROWS = 1000
"""Layers in the table of all: networks have fewer, and a stranger's report must not make a page of any length."""

HIGHEST = 40.0
"""Decibels at which a block of the strip is full: noise is a hundredth of the signal."""

Layer = Mapping[str, Any]


@dataclass(frozen=True)
class Block:
    """One layer of the strip. `height` is in percent, `tone` a class of the style sheet, `text` for a pointer."""

    number: int
    tone: str
    height: float
    text: str


@dataclass(frozen=True)
class Share:
    """Part of a file's bytes. `width` is in percent of all of them."""

    name: str
    text: str
    width: float


def layer_strip(layers: Sequence[Layer]) -> list[Block]:
    """One block per layer in execution order, as high as its SQNR; the lowest and the highest are cut off."""
    return [
        Block(
            number,
            _tone(row),
            100 * min(max(row["sqnr_db"] / HIGHEST, 0.06), 1.0),
            f"{number}: {row['name']} ({row['op']}), {row['sqnr_db']:.1f} dB",
        )
        for number, row in enumerate(layers[:MOST_ROWS], 1)
    ]


def noisiest_table(layers: Sequence[Layer]) -> Table:
    """The layers of the largest error, that one first."""
    rows = sorted(enumerate(layers, 1), key=lambda each: float(each[1]["sqnr_db"]))[:WORST]
    return layer_table(rows, [_tone(row) for _, row in rows], anchored=False)


def layers_table(layers: Sequence[Layer]) -> Table:
    """All layers in execution order, each with the anchor that the strip links to."""
    rows = list(enumerate(layers[:MOST_ROWS], 1))
    return layer_table(rows, [_tone(row) for _, row in rows], anchored=True)


def sizes(report: Mapping[str, Any]) -> list[Share]:
    """What takes the bytes of the integer file, largest layer first; empty where that is not known."""
    total = report["artifact"]["bytes"]
    known = sorted((row for row in report["layers"] if row.get("bytes")), key=lambda row: -int(row["bytes"]))
    if not known:
        return []
    parts = [(row["name"], row["bytes"]) for row in known[:WORST]]
    others = sum(row["bytes"] for row in known[WORST:])
    rest = total - others - sum(size for _, size in parts)
    if others:
        count = len(known) - WORST
        parts.append((f"{count} more layer{'s' * (count > 1)}", others))
    if rest > 0:
        parts.append(("scales, names and structure", rest))
    return [Share(name, bytes_text(size), min(100 * size / total, 100.0)) for name, size in parts]


def _tone(row: Layer) -> str:
    return "poor" if row["sqnr_db"] < POOR else "fair" if row["sqnr_db"] < FAIR else "good"
