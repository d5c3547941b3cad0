"""Decode the raw heads of a one-stage detector of the YOLO family, on the host. Needs numpy and no torch.

The heads are maps ``(images, channels, h, w)``, one per stride: first all of the boxes, then all of the class scores,
then all of a third branch (mask coefficients, keypoints or angles), and the mask prototypes at the end. The arithmetic
is that of ultralytics' ``Detect._inference``; `docs/how-to/detection.md` shows the whole path.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.decode import Detections, nms
from edgeq.errors import TaskError

__all__ = ["GridDecoding", "Heads", "decode_grid", "detect_grid", "instance_masks"]

Floats = npt.NDArray[np.floating[Any]]
Heads = Literal["detect", "segment", "pose", "obb"]


@dataclass(frozen=True)
class GridDecoding:
    """What the maps of a detector mean. `strides` are pixels per cell, one per level.

    `reg_max` is the number of channels per box side: a distribution over as many distances (Li et al., "Generalized
    Focal Loss", arXiv 2006.04388), or the distance itself where it is 1. `extra` is the number of channels of the third
    branch, 0 for none. `keypoints` are (points, values per point) for a pose. `end_to_end` boxes overlap no others, so
    no suppression follows. `plain` third branches are those of YOLO26: angles in radians, keypoints in cells from the
    cell's centre. Raises `ConfigError` for values that contradict each other.
    """

    kind: Heads
    strides: tuple[float, ...]
    reg_max: int
    classes: int
    extra: int = 0
    keypoints: tuple[int, int] | None = None
    end_to_end: bool = False
    plain: bool = False

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) <= 0 or self.reg_max < 1 or self.classes < 1:
            raise TaskError(
                f"strides {list(self.strides)}, reg_max {self.reg_max}, {self.classes} classes",
                why="must all be positive",
            )
        if self.keypoints is not None and math.prod(self.keypoints) != self.extra:
            raise TaskError(f"keypoints {list(self.keypoints)}", why=f"do not fill {self.extra} channels")

    @property
    def outputs(self) -> int:
        """Number of maps that the network returns."""
        return len(self.strides) * (3 if self.extra else 2) + (self.kind == "segment")


def decode_grid(outputs: Sequence[Floats], decoding: GridDecoding) -> Floats:
    """Rows ``(images, cells, 4 + classes + extra)``, float64: box, scores in 0..1, third branch.

    Boxes are x0, y0, x1, y1 in pixels; of oriented boxes cx, cy, width, height, and the angle in radians is the third
    branch. Keypoints are in pixels, visibility in 0..1; mask coefficients are as the network gives them. Cells are in
    the order of ultralytics: level by level, row by row. Raises `ConfigError` where the shapes do not fit.
    """
    box, scores, extra = _branches(outputs, decoding)
    levels = len(decoding.strides)
    centres, strides = _cells([np.asarray(each).shape[2:] for each in outputs[:levels]], decoding.strides)
    sides = _sides(box, decoding.reg_max)
    parts = [_sigmoid(scores)]
    if decoding.kind == "obb":
        angle = extra if decoding.plain else (_sigmoid(extra) - 0.25) * math.pi
        boxes = _oriented(sides, angle, centres) * strides
        parts.append(angle)
    else:
        boxes = np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], 1) * strides
        parts.append(_keypoints(extra, centres, strides, decoding) if decoding.keypoints else extra)
    return np.asarray(np.concatenate([boxes, *parts], 1).transpose(0, 2, 1))


def detect_grid(
    outputs: Sequence[Floats], decoding: GridDecoding, *, score: float = 0.25, overlap: float = 0.45, most: int = 300
) -> list[tuple[Detections, Floats]]:
    """The objects of every image, best first and at most `most`, and their third branches ``(objects, extra)``.

    Boxes are fractions of the image. Per class: scores above `score`, and `nms` at `overlap` unless the network is
    end to end. The overlap of oriented boxes is that of the upright boxes around them.
    """
    rows = decode_grid(outputs, decoding)
    height, width = (size * decoding.strides[0] for size in np.asarray(outputs[0]).shape[2:])
    found = []
    for image in rows:
        boxes, scores, extra = np.split(image, [4, 4 + decoding.classes], 1)
        if decoding.kind == "obb":
            boxes = _around(boxes, extra[:, 0])
        boxes = boxes / np.array([width, height, width, height])
        kept: list[tuple[npt.NDArray[np.int64], int]] = []
        for label in range(decoding.classes):
            likely = np.flatnonzero(scores[:, label] > score)
            if len(likely):
                alone = likely if decoding.end_to_end else likely[nms(boxes[likely], scores[likely, label], overlap)]
                kept.append((alone, label))
        cells = np.concatenate([alone for alone, _ in kept]) if kept else np.zeros(0, np.int64)
        labels = np.repeat([label for _, label in kept], [len(alone) for alone, _ in kept]).astype(np.int64)
        order = np.argsort(-scores[cells, labels], kind="stable")[:most]
        cells, labels = cells[order], labels[order]
        found.append((Detections(boxes[cells], scores[cells, labels], labels), extra[cells]))
    return found


def instance_masks(coefficients: Floats, prototypes: Floats, boxes: Floats) -> npt.NDArray[np.bool_]:
    """Masks ``(objects, h, w)`` at the prototypes' size, each cut to its box.

    `coefficients` ``(objects, n)`` are a segmenter's third branch, `prototypes` ``(n, h, w)`` its last output, `boxes`
    ``(objects, 4)`` fractions of the image (Bolya et al., "YOLACT", arXiv 1904.02689).
    """
    count, height, width = prototypes.shape
    values = (coefficients @ prototypes.reshape(count, -1)).reshape(-1, height, width)
    x, y = np.arange(width) / width, np.arange(height) / height
    x0, y0, x1, y1 = (boxes[:, side, None] for side in range(4))
    across, down = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return np.asarray((values > 0) & down[:, :, None] & across[:, None, :])


def _branches(outputs: Sequence[Floats], decoding: GridDecoding) -> tuple[Floats, Floats, Floats]:
    """Boxes, scores and third branch ``(images, channels, cells)``, all levels joined."""
    levels = len(decoding.strides)
    channels = [4 * decoding.reg_max, decoding.classes, *([decoding.extra] if decoding.extra else [])]
    maps = [np.asarray(each, np.float64) for each in outputs]
    expected = [count for count in channels for _ in range(levels)]
    if len(maps) != decoding.outputs or [each.shape[1] for each in maps[: len(expected)] if each.ndim == 4] != expected:
        raise TaskError(
            f"the network answered with shapes {[list(each.shape) for each in maps]}",
            why=f"its heads promise {decoding.outputs} maps of {expected} channels",
        )
    joined = [
        np.concatenate([each.reshape(*each.shape[:2], -1) for each in maps[branch * levels : (branch + 1) * levels]], 2)
        for branch in range(len(channels))
    ]
    box, scores, *rest = joined
    return box, scores, rest[0] if rest else scores[:, :0]


def _cells(sizes: Sequence[tuple[int, ...]], strides: Sequence[float]) -> tuple[Floats, Floats]:
    """Centres ``(2, cells)`` in cells, x first, and strides ``(cells,)``."""
    centres, steps = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
        centres.append(np.stack([x.ravel(), y.ravel()]))
        steps.append(np.full(height * width, stride))
    return np.concatenate(centres, 1), np.concatenate(steps)


def _sides(box: Floats, reg_max: int) -> Floats:
    """Distances ``(images, 4, cells)`` from a cell's centre to left, top, right and bottom, in cells."""
    if reg_max == 1:
        return box
    shares = box.reshape(len(box), 4, reg_max, -1)
    shares = np.exp(shares - shares.max(2, keepdims=True))
    return np.asarray(np.einsum("ijkl,k->ijl", shares / shares.sum(2, keepdims=True), np.arange(reg_max)))


def _oriented(sides: Floats, angle: Floats, centres: Floats) -> Floats:
    x, y = np.split((sides[:, 2:] - sides[:, :2]) / 2, 2, 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    middle = np.concatenate([x * cosine - y * sine, x * sine + y * cosine], 1) + centres
    return np.asarray(np.concatenate([middle, sides[:, :2] + sides[:, 2:]], 1))


def _keypoints(values: Floats, centres: Floats, strides: Floats, decoding: GridDecoding) -> Floats:
    points, each = decoding.keypoints or (0, 0)
    split = values.reshape(len(values), points, each, -1)
    place = split[:, :, :2] + centres if decoding.plain else split[:, :, :2] * 2.0 + (centres - 0.5)
    return np.asarray(np.concatenate([place * strides, _sigmoid(split[:, :, 2:])], 2).reshape(values.shape))


def _around(boxes: Floats, angle: Floats) -> Floats:
    """Upright boxes x0, y0, x1, y1 around oriented ones."""
    cosine, sine = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    width, height = boxes[:, 2] * cosine + boxes[:, 3] * sine, boxes[:, 2] * sine + boxes[:, 3] * cosine
    half = np.stack([width, height], 1) / 2
    return np.asarray(np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(values / 2)))
