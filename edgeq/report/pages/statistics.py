"""statistics.html: how well a calibration set stands in for the data the network remembers, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.errors import coded
from edgeq.report.lock import portable
from edgeq.report.pages.charts import gap_chart
from edgeq.report.pages.pictures import data_uri
from edgeq.report.pages.report import template
from edgeq.report.snippets import snippets

__all__ = ["render_statistics"]

WORST = 10
"""Layers listed by name below the charts."""


def render_statistics(facts: Mapping[str, Any], sheet: bytes, folder: str) -> str:
    """The page of what statistics.json holds. `sheet` is the contact sheet, a PNG; `folder` as the user typed it,
    shown without the folders of this machine. Raises `ValueError` for a sheet that is no PNG."""
    layers = [dict(row) for row in facts["layers"]]
    return template("statistics.html.j2").render(
        s=facts,
        sheet=data_uri(sheet),
        charts=[
            (
                "Means",
                "average distance of a channel’s mean from the one expected, in standard deviations",
                gap_chart(layers, "mean"),
            ),
            (
                "Spreads",
                "average difference of a channel’s standard deviation from the one expected, in units of it",
                gap_chart(layers, "std"),
            ),
        ],
        worst=sorted(layers, key=lambda row: -max(row["mean_gap"], row["std_gap"]))[:WORST],
        silent=sum(row["silent"] for row in layers),
        warnings=_warnings(facts),
        snippets=snippets(portable(folder)),
        folder=portable(folder),
    )


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """What a person should know before using the set elsewhere."""
    warnings = []
    gaps, answers = facts["gaps"], facts["answers"]
    if pixels := [field for field in facts["assumed"] if field != "task"]:
        text = f"Nobody stated {' and '.join(pixels)}: {facts.get('usual_values', 'the usual values')} were assumed."
        warnings.append(coded("W120", text))
    if facts.get("assumption"):
        warnings.append(coded("W121", f"{facts['assumption'][:1].upper()}{facts['assumption'][1:]}."))
    if facts["reference"] is None:
        warnings.append(coded("W300", f"Layers could not be compared: {facts['reference_why']}."))
    if gaps and gaps["mean_gap"] + gaps["std_gap"] >= gaps["noise_mean_gap"] + gaps["noise_std_gap"]:
        warnings.append(coded("W301", "These images match the network no better than Gaussian noise does."))
    if answers and answers["share"] is not None and answers["share"] < 0.5:
        text = "The network assigns most images to another class than they were made for."
        warnings.append(coded("W131", text))
    if facts["outside"] > 0.001:
        share = f"{100 * facts['outside']:.1f} %"
        text = f"{share} of the values are none a pixel can have; in images.npz and png/ they are clipped."
        warnings.append(coded("W302", text))
    return warnings
