"""What a detector should answer: every anchor's class and deltas, for boxes known to be there (SSD, section 2.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from edgeq.decode import iou

__all__ = ["assign", "detection_loss", "encode"]

Floats = npt.NDArray[np.floating[Any]]

POSITIVE = 0.45
"""Overlap from which an anchor stands for a box; the best anchor of a box does in any case."""
NEGATIVES = 3
"""Background anchors that count, for each that stands for a box: those that look least like background."""


def encode(boxes: Floats, anchors: Floats, variances: tuple[float, float]) -> Floats:
    """Deltas ``(N, 4)`` that `edgeq.decode.decode_boxes` turns into `boxes` (corners), anchor by anchor."""
    size = boxes[:, 2:] - boxes[:, :2]
    shift = ((boxes[:, :2] + boxes[:, 2:]) / 2 - anchors[:, :2]) / anchors[:, 2:]
    return np.concatenate([shift / variances[0], np.log(size / anchors[:, 2:]) / variances[1]], 1)


def assign(
    boxes: Floats, labels: npt.NDArray[np.int64], anchors: Floats, variances: tuple[float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Class ``(anchors,)``, 0 for background and label + 1 for boxes, and deltas ``(anchors, 4)``."""
    corners = np.concatenate([anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1)
    overlaps = iou(boxes, corners)
    if not len(boxes):
        return np.zeros(len(anchors), np.int64), np.zeros((len(anchors), 4), np.float32)
    owner, best = overlaps.argmax(0), overlaps.max(0)
    own = overlaps.argmax(1)
    owner[own], best[own] = np.arange(len(boxes)), 1.0
    classes = np.where(best >= POSITIVE, labels[owner] + 1, 0)
    return classes, encode(boxes[owner], anchors, variances).astype(np.float32)


def detection_loss(logits: Tensor, deltas: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over boxes and the hardest background, plus smooth L1 of deltas, per anchor that has a box."""
    positive = classes > 0
    count = positive.sum().clamp(min=1)
    costs = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view_as(classes)
    with torch.no_grad():
        background = costs.masked_fill(positive, -1.0)
        rank = background.argsort(1, descending=True).argsort(1)
        hard = rank < NEGATIVES * positive.sum(1, keepdim=True)
    where = F.smooth_l1_loss(deltas[positive], targets[positive], reduction="sum")
    return (costs[positive | (hard & ~positive)].sum() + where) / count
