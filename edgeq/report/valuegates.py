"""Limits on real values: errors of a regressor's outputs, and cosines of embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeq.report.gate import Gate, at_least, at_most
from edgeq.report.reading import SoundReport, finite, within

__all__ = ["value_gates"]

_OUTPUT_KEYS = {"max-error": ("p95_difference",), "max-mae": ("integer", "mae"), "min-snr-db": ("snr_db",)}
"""Where the value of a limit stands in a row of ``regression.outputs``."""


def value_gates(report: SoundReport, limits: Mapping[str, float]) -> Iterator[Gate]:
    """Hold `report` to `limits`. Of several outputs the worst one is judged, and the gate's note names it."""
    for name, limit in limits.items():
        judge = at_least if name.startswith("min-") else at_most
        if name == "min-cosine":
            value = report.number("embedding", "cosine_p5")
            missing = report.why("embedding", "no embeddings were measured: --task embedding and evaluation images")
            yield judge(name, limit, value, missing)
            continue
        rows = report.value("regression", "outputs")
        rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        known = [(finite(within(row, *_OUTPUT_KEYS[name])), row) for row in rows]
        missing = report.why("regression", "no real values were measured: --task regression and evaluation images")
        if rows and any(value is None for value, _ in known):
            why = "no true values are known: evaluation images with values" if name == "max-mae" else missing
            yield judge(name, limit, None, why)
            continue
        worst: tuple[float, Mapping[str, Any]] | None = None
        for value, row in known:
            if value is not None and (worst is None or (value > worst[0]) != name.startswith("min-")):
                worst = value, row
        value, note = (None, None) if worst is None else (worst[0], f"the worst output is {_label(worst[1])}")
        yield judge(name, limit, value, missing, note if len(rows) > 1 else None)


def _label(row: Mapping[str, Any]) -> str:
    unit = row.get("unit")
    return f"{row.get('name')} ({unit})" if unit else str(row.get("name"))
