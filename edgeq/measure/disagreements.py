"""Where two networks answer differently: how often each class is answered, and which images they disagree on.

Images are named by their number among those that were measured, from 0. Their content stays out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.decode import Detections, count_matches
from edgeq.measure.accuracy import Accuracy

__all__ = ["MOST_CLASSES", "MOST_IMAGES", "compare_boxes", "compare_classes", "compare_maps"]

MOST_CLASSES = 32
"""Classes up to which a confusion matrix is kept: a person reads no larger one."""

MOST_IMAGES = 64
"""Images of different answers that are listed."""

Array = npt.NDArray[Any]


def compare_classes(before: Accuracy, after: Accuracy, names: Sequence[str]) -> dict[str, Any]:
    """`confusion` and `disagreements` of two classifiers on the same images.

    Images that became wrong come first, then those that both have wrong, then those that became right.
    """
    truth = before.labels
    rank = np.where(before.correct, 0, np.where(after.correct, 2, 1))
    differing = np.flatnonzero(before.predictions != after.predictions)
    rows = [
        {
            "image": int(image),
            "truth": _name(truth[image], names),
            "float": _name(before.predictions[image], names),
            "integer": _name(after.predictions[image], names),
        }
        for image in differing[np.argsort(rank[differing], kind="stable")][:MOST_IMAGES]
    ]
    matrices = _confusion(truth, before.predictions, after.predictions, names)
    return matrices | {"disagreements": rows}


def compare_maps(
    before: Sequence[Array], after: Sequence[Array], truths: Sequence[Array], names: Sequence[str], ignore: int
) -> dict[str, Any]:
    """`agreement`, `confusion` and `disagreements` of two segmenters, by pixel. Every map is ``(H, W)``.

    Pixels whose truth is `ignore` are left out of the matrices.
    """
    alike = [float(np.mean(one == other)) for one, other in zip(before, after, strict=True)]
    kept = [truth != ignore for truth in truths]
    truth, one, other = (
        np.concatenate([each[mask] for each, mask in zip(maps, kept, strict=True)]) for maps in (truths, before, after)
    )
    return {"agreement": float(np.mean(alike))} | _confusion(truth, one, other, names) | _least_alike(alike)


def compare_boxes(before: Sequence[Detections], after: Sequence[Detections], score: float) -> dict[str, Any]:
    """`agreement` and `disagreements` of two detectors, by their boxes above `score`.

    `agreement` is the share of the boxes of `before` with a partner in `after`, 1 where there are none. That of an
    image is the share of the boxes of both.
    """
    hits = total = 0
    alike = []
    for one, other in zip(before, after, strict=True):
        matched, ours, theirs = _match(one, other, score)
        hits, total = hits + matched, total + ours
        alike.append(2 * matched / (ours + theirs) if ours + theirs else 1.0)
    return {"agreement": hits / total if total else 1.0} | _least_alike(alike)


def _match(before: Detections, after: Detections, score: float) -> tuple[int, int, int]:
    """Boxes with a partner of the same class at IoU 0.5, and all boxes above `score` of `before` and of `after`."""
    kept = [(each.boxes[each.scores > score], each.labels[each.scores > score]) for each in (before, after)]
    matched = 0
    for label in np.unique(kept[0][1]):
        reference, ours = (np.asarray(boxes[labels == label], np.float64) for boxes, labels in kept)
        matched += count_matches(ours, reference)
    return matched, len(kept[0][0]), len(kept[1][0])


def _least_alike(alike: Sequence[float]) -> dict[str, Any]:
    order = np.argsort(alike, kind="stable")[:MOST_IMAGES]
    rows = [{"image": int(image), "agreement": alike[image]} for image in order if alike[image] < 1]
    return {"disagreements": rows}


def _confusion(truth: Array, before: Array, after: Array, names: Sequence[str]) -> dict[str, Any]:
    """Both matrices over the classes that occur; nothing where these are more than a person reads."""
    answers = [np.asarray(each, np.int64).ravel() for each in (truth, before, after)]
    classes = np.unique(np.concatenate([np.unique(each) for each in answers]))
    if len(classes) > MOST_CLASSES:
        return {}
    rows, *columns = (np.searchsorted(classes, each) for each in answers)
    size = len(classes)
    matrices = [np.bincount(rows * size + each, minlength=size * size).reshape(size, size) for each in columns]
    confusion = {"classes": [_name(each, names) for each in classes]}
    return {"confusion": confusion | dict(zip(("float", "integer"), (m.tolist() for m in matrices), strict=True))}


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(int(label))
