"""How the integer grids of two builds differ: scales, zero points and bits of every op, and the integers of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeq.integer.graph import LIMITS, IntegerGraph, Quantization

__all__ = ["moved_grids"]

CLOSE = 1e-6
"""Relative difference of scales that float32 rounding explains."""


def moved_grids(before: IntegerGraph, after: IntegerGraph) -> dict[str, Any]:
    """The grids that moved from one build to the other, those that moved most first.

    ``moved`` has a row per op and place (``output`` or ``weights``). Its ``scale_ratio`` is after / before, of the
    scale that changed most where there are several; ``zero_point_shift`` is in steps, from the lowest integer of the
    type; ``integers_changed`` is the share of weights with another integer, None where their shapes differ.
    ``only_before`` and ``only_after`` are ops that one of the builds does not have.
    """
    ours, theirs = ({node.name: node for node in graph.nodes} for graph in (before, after))
    rows = [row for name in ours if name in theirs for row in _rows(before, after, name)]
    moved = [row for row in rows if row.pop("moved")]
    moved.sort(key=lambda row: -_size(row))
    return {
        "grids": len(rows),
        "moved": moved,
        "only_before": [name for name in ours if name not in theirs],
        "only_after": [name for name in theirs if name not in ours],
    }


def _size(row: dict[str, Any]) -> float:
    """How far a grid moved, for sorting: other bits first, then by ranges."""
    ratio, shift = row["scale_ratio"], row["zero_point_shift"]
    bits: int = abs(row["bits_before"] - row["bits_after"])
    return 1000.0 * bits + (abs(math.log2(ratio)) if ratio else 0.0) + float(abs(shift or 0)) / 256


def _rows(before: IntegerGraph, after: IntegerGraph, name: str) -> Iterator[dict[str, Any]]:
    yield {"name": name, "place": "output", **_compare(before.quantizations[name], after.quantizations[name])}
    weights = [{node.name: node.inputs[1] for node in graph.layers()}.get(name) for graph in (before, after)]
    one, other = weights
    if one is None or other is None:
        return
    row = {"name": name, "place": "weights", **_compare(before.quantizations[one], after.quantizations[other])}
    left, right = (graph.constants.get(key) for graph, key in ((before, one), (after, other)))
    if left is not None and right is not None and left.shape == right.shape:
        share = float((left != right).mean())
        row |= {"integers_changed": share, "moved": row["moved"] or share > 0}
    yield row


def _compare(one: Quantization, other: Quantization) -> dict[str, Any]:
    scales = [np.atleast_1d(grid.scale).astype(np.float64) for grid in (one, other)]
    ratio = None
    if scales[0].shape == scales[1].shape:
        ratios = scales[1] / scales[0]
        ratio = float(ratios[np.argmax(np.abs(np.log(ratios)))])
    starts = [np.atleast_1d(grid.zero_point)[0] - grid.limits[0] for grid in (one, other)]
    bits = [_bits(grid) for grid in (one, other)]
    shift = int(starts[1] - starts[0]) if bits[0] == bits[1] else None
    same = ratio is not None and abs(ratio - 1) <= CLOSE and shift == 0
    return {
        "bits_before": bits[0],
        "bits_after": bits[1],
        "scale_before": float(scales[0].max()),
        "scale_after": float(scales[1].max()),
        "scale_ratio": ratio,
        "zero_point_shift": shift,
        "integers_changed": None,
        "moved": not same,
    }


def _bits(grid: Quantization) -> int:
    low, high = LIMITS[grid.dtype]
    return grid.bits or (high - low).bit_length()
