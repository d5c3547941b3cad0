"""Decode the raw outputs of detectors and segmenters, on the host behind the integer file. Needs numpy and no torch.

Boxes are float ``(N, 4)``: x0, y0, x1, y1, as fractions of the image. `docs/how-to/detection.md` shows the whole path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import TaskError

__all__ = ["Detections", "count_matches", "decode_boxes", "detect", "enlarge", "iou", "nms", "priors"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Detections:
    """Best first: `boxes` ``(N, 4)``, `scores` ``(N,)`` in 0..1, `labels` ``(N,)`` from 0, background not counted."""

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    labels: Ints


def priors(
    image: tuple[int, int], maps: Sequence[tuple[int, int]], sizes: Sequence[Sequence[float]]
) -> npt.NDArray[np.float64]:
    """Centre and size of every anchor, ``(N, 4)`` as cx, cy, w, h in fractions: map by map, row by row, size by size.

    `image` and `maps` are (height, width); `sizes` in pixels, squares, one list per map (Liu et al., "SSD", section
    2.2, aspect ratio 1). Raises `ConfigError` unless there are as many lists as maps.
    """
    if len(maps) != len(sizes):
        raise TaskError(f"{len(sizes)} lists of anchor sizes for {len(maps)} maps")
    rows = []
    for (height, width), squares in zip(maps, sizes, strict=True):
        cy, cx, side = np.meshgrid(
            (np.arange(height) + 0.5) / height,
            (np.arange(width) + 0.5) / width,
            np.asarray(squares, np.float64),
            indexing="ij",
        )
        rows.append(np.stack([cx, cy, side / image[1], side / image[0]], -1).reshape(-1, 4))
    return np.asarray(np.clip(np.concatenate(rows), 0.0, 1.0))


def decode_boxes(deltas: Floats, anchors: Floats, variances: tuple[float, float] = (0.1, 0.2)) -> Floats:
    """Boxes of `deltas` ``(N, 4)`` (dx, dy, log w, log h, divided by `variances`) around `anchors` from `priors`."""
    centre = anchors[:, :2] + deltas[:, :2] * variances[0] * anchors[:, 2:]
    half = anchors[:, 2:] * np.exp(deltas[:, 2:] * variances[1]) / 2
    return np.concatenate([centre - half, centre + half], 1)


def iou(one: Floats, other: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair, ``(len(one), len(other))``; 0 where both are empty."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), -1)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), -1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(union.shape), where=union > 0), np.float64)


def nms(boxes: Floats, scores: Floats, threshold: float) -> Ints:
    """Indices of the boxes kept, best first: none overlaps a better one by more than `threshold`. Ties: lower index."""
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[iou(boxes[best : best + 1], boxes[left])[0] <= threshold]
    return np.array(kept, np.int64)


def detect(
    logits: Floats,
    deltas: Floats,
    anchors: Floats,
    *,
    score: float,
    overlap: float,
    variances: tuple[float, float] = (0.1, 0.2),
) -> Detections:
    """One image's raw outputs, ``(N, 1 + classes)`` logits with background first and ``(N, 4)`` deltas, to boxes.

    Softmax, then per class: scores above `score`, and `nms` at `overlap`.
    """
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    chances = raised / raised.sum(1, keepdims=True)
    boxes = decode_boxes(deltas.astype(np.float64), anchors, variances)
    found: list[tuple[Floats, Floats, Ints]] = []
    for label in range(1, logits.shape[1]):
        likely = np.flatnonzero(chances[:, label] > score)
        kept = likely[nms(boxes[likely], chances[likely, label], overlap)]
        found.append((boxes[kept], chances[kept, label], np.full(len(kept), label - 1, np.int64)))
    order = np.argsort(-np.concatenate([scores for _, scores, _ in found]), kind="stable")
    together = (np.concatenate(column)[order] for column in zip(*found, strict=True))
    return Detections(*together)


def enlarge(logits: Floats, size: tuple[int, int]) -> Floats:
    """Logits ``(N, C, h, w)`` at `size` (height, width), bilinear as torch's `interpolate` without `align_corners`."""
    values = logits.astype(np.float32)
    for axis, length in ((2, size[0]), (3, size[1])):
        ratio = np.float32(values.shape[axis] / length)
        place = np.maximum((np.arange(length, dtype=np.float32) + np.float32(0.5)) * ratio - np.float32(0.5), 0)
        low = np.minimum(place.astype(np.int64), values.shape[axis] - 1)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        share: Floats = (
            np.expand_dims(place - low.astype(np.float32), 1) if axis == 2 else place - low.astype(np.float32)
        )
        values = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return values


def count_matches(boxes: Floats, reference: Floats, threshold: float = 0.5) -> int:
    """How many boxes of `reference` have a partner in `boxes` at an overlap of `threshold`, each used once.

    Pairs are taken greedily, the largest overlap first.
    """
    overlaps = iou(reference, boxes)
    count = 0
    while overlaps.size and overlaps.max() >= threshold:
        row, column = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        overlaps[row], overlaps[:, column] = -1.0, -1.0
        count += 1
    return count
