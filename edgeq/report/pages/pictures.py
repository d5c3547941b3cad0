"""Pictures of a report's page: sheets of tiles, each embedded once, of which the page shows tile by tile."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["SHOWN", "Sheet", "calibration_sheet", "data_uri", "disagreement_pictures"]

SHOWN = 24
"""Evaluation images that a page shows, at most."""

CALIBRATION_TILES = 64
"""Calibration images on a contact sheet, at most."""

MARGIN = 2
"""Pixels between tiles, and around them."""


@dataclass(frozen=True)
class Sheet:
    """`source` is the whole picture as data. `groups` are captions, each with the view boxes of its tiles."""

    name: str
    source: str
    width: int
    height: int
    groups: tuple[tuple[str, tuple[str, ...]], ...]


def data_uri(picture: bytes) -> str:
    """A PNG inside the page. Raises `ValueError` for anything else."""
    if not picture.startswith(b"\x89PNG\r\n\x1a\n") or len(picture) < 24:
        raise ValueError("a picture of the report is not a PNG")
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def calibration_sheet(picture: bytes, synthesis: Mapping[str, Any]) -> Sheet:
    """The contact sheet, whose tiles are in the order of classes, those without a class first."""
    tiles = min(CALIBRATION_TILES, synthesis["images"])
    classes = synthesis.get("classes") or {}
    unlabelled = max(synthesis["images"] - sum(classes.values()), 0)
    groups = [("without a class" if classes else "", unlabelled)] if unlabelled else []
    return _sheet("calibration", picture, tiles, [*groups, *classes.items()])


def disagreement_pictures(picture: bytes, accuracy: Mapping[str, Any]) -> Sheet:
    """The sheet of evaluation images, each with what both networks answer."""
    rows = (accuracy.get("disagreements") or ())[:SHOWN]
    return _sheet("disagreements", picture, len(rows), [(_caption(row), 1) for row in rows])


def _caption(row: Mapping[str, Any]) -> str:
    if "agreement" in row:
        return f"image {row['image']}: {100 * row['agreement']:.1f} % alike"
    words = {key: row.get(key, "–") for key in ("truth", "float", "integer")}
    return f"image {row['image']}, {words['truth']}: float {words['float']}, integer {words['integer']}"


def _sheet(name: str, picture: bytes, tiles: int, groups: Sequence[tuple[str, int]]) -> Sheet:
    """Cut a square grid of `tiles` tiles into `groups`, each a caption and how many tiles it has."""
    source = data_uri(picture)
    width, height = struct.unpack(">II", picture[16:24])
    columns = max(math.ceil(math.sqrt(tiles)), 1)
    rows = max(math.ceil(tiles / columns), 1)
    across, down = (max((size - MARGIN) // count, MARGIN + 1) for size, count in ((width, columns), (height, rows)))
    boxes = [
        f"{MARGIN + n % columns * across} {MARGIN + n // columns * down} {across - MARGIN} {down - MARGIN}"
        for n in range(tiles)
    ]
    cut, start = [], 0
    for caption, count in groups:
        if start < tiles:
            cut.append((caption, tuple(boxes[start : start + count])))
        start += count
    return Sheet(name, source, width, height, tuple(cut))
