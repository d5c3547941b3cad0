"""report.html of a finished build: rendered from what lies in its folder, with links to the builds beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from edgeq.data.evaluation import EvaluationSet
from edgeq.errors import EdgeqError
from edgeq.files import write_atomic
from edgeq.products import MARKER
from edgeq.report.pages.pictures import SHOWN
from edgeq.report.pages.report import render
from edgeq.report.reading import read_report
from edgeq.synth.sheet import tile_pictures

__all__ = ["disagreement_sheet", "write_page"]

SIDE = 96
"""Pixels of an evaluation image in a report, at most: enough to see what it shows."""


def write_page(staging: Path, report: Mapping[str, Any], folder: Path, rebuild: str) -> None:
    """Write the page into `staging`, with the pictures there. It names `folder` as the build's own."""
    pictures = {
        name: (staging / f"{name}.png").read_bytes() if (staging / f"{name}.png").is_file() else None
        for name in ("calibration", "disagreements")
    }
    siblings = dict(_siblings(folder, report["model"]))
    write_atomic(
        staging / "report.html", render(report, **pictures, folder=str(folder), rebuild=rebuild, siblings=siblings)
    )


def disagreement_sheet(report: Mapping[str, Any], evaluation: EvaluationSet) -> bytes | None:
    """A PNG of the first `SHOWN` images of `evaluation` that the report lists under ``accuracy.disagreements``.

    None where there are none.
    """
    accuracy = report["accuracy"] or {}
    numbers = [row["image"] for row in accuracy.get("disagreements", ())][:SHOWN]
    if not numbers:
        return None
    images = np.asarray(evaluation.part(accuracy["n"]).images[numbers])
    longest = max(images.shape[1:3])
    return tile_pictures(images, SIDE / longest if longest > SIDE else max(1, SIDE // longest))


def _siblings(folder: Path, model: str) -> Iterator[tuple[str, str]]:
    """Target and relative link of every other build of `model` in the folder around `folder`."""
    here = folder.absolute()
    for lock in sorted(here.parent.glob(f"*/{MARKER}")):
        try:
            other = read_report(lock.parent) if lock.parent != here else {}
        except (EdgeqError, OSError):
            continue
        if other.get("model") == model and isinstance(other.get("target"), str):
            yield f"{other['target']} ({other.get('bits')})", f"../{quote(lock.parent.name)}/report.html"
