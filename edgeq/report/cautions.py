"""Warnings that follow from a build's numbers: a float network at chance, and values that lost their meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.errors import coded
from edgeq.report.metric import metric_of, score_of
from edgeq.report.pages.layers import POOR

__all__ = ["accuracy_cautions", "chance_of", "layer_cautions", "regression_cautions"]

SATURATED = 0.01
"""Share of answers beyond the range of the file above which the range is too narrow."""

NAMED = 3
"""Ops that a warning of its own names; the rest are counted."""

STEPS = 255
"""Steps of the 8-bit scale that everything in a join shares."""

FEW = 16
"""Steps of `STEPS` below which a joined value is a value of fewer than 4 bits."""

Row = Mapping[str, Any]


def accuracy_cautions(accuracy: Mapping[str, Any] | None) -> list[str]:
    """Warn that the float network answers no better than chance, so that its loss cannot be judged; at most one
    line."""
    chance = chance_of(accuracy)
    hint = "are labels, weights, mean and std those it was trained with?"
    text = f"{chance}: nothing can be said about what the integer model keeps; {hint}"
    return [coded("W110", text)] if chance else []


def regression_cautions(regression: Mapping[str, Any] | None) -> list[str]:
    """Outputs whose answers saturate in the integer file: more than `SATURATED` of them lie beyond its range."""
    return [
        coded(
            "W111",
            f"{row['name']}: {row['beyond']:.1%} of the float network's answers lie beyond what the file can answer; "
            "calibrate with pictures of your own (--method images:PATH)",
        )
        for row in (regression or {}).get("outputs", ())
        if row["beyond"] > SATURATED
    ]


def chance_of(accuracy: Mapping[str, Any] | None) -> str | None:
    """Say that the float network scores no better than chance, where that is so.

    For a classifier the interval of its top-1 must lie above chance. `accuracy` is the report's section, whole.
    """
    chance, score = (accuracy or {}).get("chance"), score_of(accuracy, "float")
    if accuracy is None or chance is None or score is None:
        return None
    interval = accuracy["float"].get("top1_interval") or [score]
    if interval[0] > chance:
        return None
    if abs(score - chance) < 1e-9 and metric_of(accuracy) == "top-1":
        return (
            f"the float network has {metric_of(accuracy)} {score:.2f} % as chance would: it gives every image the same "
            "answer, or all images are of one class"
        )
    few = f" on {accuracy['n']:,} images"
    return f"the float network has {metric_of(accuracy)} {score:.2f} %{few}, no better than chance ({chance:.2f} %)"


def layer_cautions(layers: Sequence[Row]) -> list[str]:
    """Joins that keep few steps of a value, then the noisiest ops below `POOR` decibels, at most `NAMED` lines each."""
    rows = {row["name"]: row for row in layers}
    joins = [line for row in layers if row["op"] == "Concat" and (line := _join(row, rows))]
    poor = sorted((row for row in layers if row["sqnr_db"] < POOR), key=lambda row: float(row["sqnr_db"]))
    lines = [
        f"{row['name']} ({row['op']}) keeps {row['sqnr_db']:.1f} dB of its signal on calibration images: "
        f"{'more noise than signal' if row['sqnr_db'] < 0 else 'little of it is left'}"
        for row in poor[:NAMED]
    ]
    if len(poor) > NAMED:
        lines[-1] += f"; {len(poor) - NAMED} more ops are below {POOR:.0f} dB"
    return [*joins[:NAMED], *(coded("W112", line) for line in lines)]


def _join(row: Row, rows: Mapping[str, Row]) -> str | None:
    """Say which inputs of a Concat keep fewer than `FEW` steps of the scale they all share."""
    span = _span(row)
    inputs = [rows[name] for name in row.get("reads", ()) if name in rows and _span(rows[name])]
    if not span or len(inputs) < 2:
        return None
    small, large = (choose(inputs, key=lambda each: _span(each)) for choose in (min, max))
    kept = round(STEPS * _span(small) / span)
    if kept >= FEW:
        return None
    text = (
        f"{row['name']} joins {_range(large)} with {_range(small)}, which keeps {max(kept, 1)} of {STEPS + 1} steps: "
        "return them apart, or bring them to one range (boxes divided by the size of the image)"
    )
    return coded("W113", text)


def _span(row: Row) -> float:
    """How far the float values of an op reach; 0 where that is not known."""
    return float(row.get("high", 0.0) - row.get("low", 0.0))


def _range(row: Row) -> str:
    return f"{row['low']:.3g}..{row['high']:.3g}"
