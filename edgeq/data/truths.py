"""Ground truth of evaluation images, by task: a class, a mask, boxes, values or pairs for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.data.classnames import ClassNames
from edgeq.data.values import check_pairs, check_values
from edgeq.errors import LabelsError
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, GridDetection, Segmentation

__all__ = ["ARRAYS", "Truths", "check_truths", "truths_sha256"]

Truths = npt.NDArray[Any]
"""Ground truth of N images. Classification: int64 classes ``(N,)``. Segmentation: uint8 masks ``(N, H, W)``.

Detection: objects ``(N,)``, each a pair of boxes ``(n, 4)``, as fractions of the image, and labels ``(n,)`` from 0.
Regression: float64 values ``(N, K)``. Embedding: pairs by image (`check_pairs`)."""

ARRAYS: Mapping[str, tuple[str, ...]] = {
    "classification": ("labels",),
    "segmentation": ("masks",),
    "detection": ("boxes", "labels", "image"),
    "regression": ("values",),
    "embedding": ("pairs", "same"),
}
"""By task, the arrays of an ``.npz`` beside ``images``.

A detector's boxes are listed together, ``(M, 4)``, with their labels ``(M,)`` and the index ``(M,)`` of each box's
image."""


def check_truths(given: Any, images: int, source: str, spec: ModelSpec) -> Truths:
    """`given` as `Truths` of `images` images, or `ConfigError` saying what is wrong with it."""
    if spec.task == "classification":
        return _classes(np.asarray(given), images, source, spec)
    if spec.task == "regression":
        return check_values(given, images, source, spec)
    if spec.task == "embedding":
        return check_pairs(given, images, source)
    if not isinstance(spec.dense, Segmentation | Detection | GridDetection):
        raise LabelsError(
            f"evaluation images for {spec.task}",
            where=spec.name,
            why="nothing says what its outputs mean",
            hint="add a [task] table to model.toml, see docs/how-to/tasks.md",
        )
    if isinstance(spec.dense, Segmentation):
        return _masks(np.asarray(given), images, source, spec, spec.dense)
    if isinstance(given, Mapping):
        given = _apart(given, images, source)
    return _boxes(given, images, source, len(spec.dense.classes))


def truths_sha256(total: Any, truths: Truths) -> None:
    """Update the hash `total` with `truths`."""
    if truths.dtype != object:
        total.update(truths.tobytes())
        return
    for boxes, labels in truths:
        total.update(hashlib.sha256(boxes.tobytes() + labels.tobytes()).digest())


def _classes(labels: npt.NDArray[Any], images: int, source: str, spec: ModelSpec) -> Truths:
    if labels.dtype.kind == "U" and labels.shape == (images,) and spec.labels:
        return _number_names(labels, source, spec)
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise LabelsError(
            f"labels of {source} are {labels.dtype} {list(labels.shape)}",
            why=f"must be {images} integers, one per image",
        )
    return labels.astype(np.int64)


def _number_names(labels: npt.NDArray[Any], source: str, spec: ModelSpec) -> Truths:
    """Class numbers of labels that are names."""
    known = ClassNames(spec.labels)
    numbers = {name: known.find(name) for name in np.unique(labels).tolist()}
    strange = [name for name, number in numbers.items() if number is None]
    if strange:
        raise LabelsError(
            f"labels {strange[:3]} of {source} match no label of {spec.name}, or more than one",
            why=f"its labels are {', '.join(map(repr, spec.labels[:3]))}" + ", ..." * (len(spec.labels) > 3),
        )
    return np.array([numbers[name] for name in labels.tolist()], np.int64)


def _masks(masks: npt.NDArray[Any], images: int, source: str, spec: ModelSpec, task: Segmentation) -> Truths:
    _, height, width = spec.input_shape
    if masks.dtype.kind not in "iu" or masks.shape != (images, height, width):
        raise LabelsError(
            f"masks of {source} are {masks.dtype} {list(masks.shape)}",
            why=f"must be integers {[images, height, width]}",
        )
    numbers = np.unique(masks)
    strange = [int(value) for value in numbers if not 0 <= value < len(task.classes) and value != task.ignore]
    if strange:
        raise LabelsError(
            f"masks of {source} hold {strange[:3]}",
            why=f"{spec.name} has {len(task.classes)} classes from 0, and {task.ignore} is left out",
        )
    return masks.astype(np.uint8)


def _boxes(given: Sequence[Any], images: int, source: str, classes: int) -> Truths:
    truths = np.empty(images, object)
    if len(given) != images:
        raise LabelsError(f"boxes of {source} are for {len(given)} images", why=f"there are {images}")
    for index, pair in enumerate(given):
        try:
            boxes, labels = (np.asarray(part) for part in pair)
        except (TypeError, ValueError) as error:
            raise LabelsError(f"boxes of image {index} of {source}", why="must be a pair (boxes, labels)") from error
        if boxes.dtype.kind not in "fiu" or labels.ndim != 1:
            raise LabelsError(f"boxes of image {index} of {source}", why="must be numbers, with a list of labels")
        if boxes.size == 0:
            boxes, labels = np.zeros((0, 4)), np.zeros(0, np.int64)
        if boxes.ndim != 2 or boxes.shape != (len(labels), 4) or labels.dtype.kind not in "iu":
            raise LabelsError(
                f"boxes of image {index} of {source} are {list(boxes.shape)} with {list(labels.shape)} labels",
                why="must be (n, 4) with n integers",
            )
        fine = np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all() and (np.abs(boxes - 0.5) <= 1).all()
        if not fine:
            raise LabelsError(f"boxes of image {index} of {source}", why="must be x0, y0, x1, y1 as fractions of it")
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise LabelsError(f"labels of image {index} of {source}", why=f"must be 0 to {classes - 1}")
        truths[index] = (boxes.astype(np.float64), labels.astype(np.int64))
    return truths


def _apart(listed: Mapping[str, Any], images: int, source: str) -> list[tuple[Any, Any]]:
    """Group boxes that are listed together into one pair per image."""
    boxes, labels, owner = (np.asarray(listed[name]) for name in ARRAYS["detection"])
    listed_alike = boxes.ndim == 2 and labels.shape == owner.shape == (len(boxes),)
    if not listed_alike or boxes.dtype.kind not in "fiu" or owner.dtype.kind not in "iu":
        raise LabelsError(f"boxes, labels and image of {source}", why="must list the same boxes, image as integers")
    if len(owner) and not 0 <= owner.min() <= owner.max() < images:
        raise LabelsError(f"image of {source} goes up to {owner.max()}", why=f"there are {images} images")
    return [(boxes[owner == index], labels[owner == index]) for index in range(images)]
