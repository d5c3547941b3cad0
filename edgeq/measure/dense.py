"""Scores of segmenters (mean intersection over union) and detectors (mean average precision).

The numbers come from torchmetrics (mIoU) and pycocotools (mAP), so they compare with published tables. Both are
imported when something is measured: they take seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.decode import Detections
from edgeq.errors import MeasurementError

__all__ = ["Boxes", "Dense", "chance_score", "detection_score", "enlarge", "masks_score", "segmentation_score"]

MOST = 100
"""Largest number of boxes per image that count, best first, as in COCO's evaluation."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The true objects of an image: `boxes` ``(N, 4)`` as fractions of the image, and `labels` ``(N,)`` from 0."""

    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dense:
    """Score of a dense task: `score` is the mean of `per_class`, in percent; a class that does not occur is None.

    `n` is the number of images.
    """

    score: float
    per_class: tuple[float | None, ...]
    n: int


def enlarge(logits: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Logits ``(N, C, h, w)`` at `size` (height, width), bilinear, as docs/how-to/segmentation.md asks."""
    import torch
    from torch.nn.functional import interpolate

    values = torch.from_numpy(np.ascontiguousarray(logits, np.float32))
    result: npt.NDArray[np.float32] = interpolate(values, size, mode="bilinear", align_corners=False).numpy()
    return result


def segmentation_score(
    logits: Iterable[npt.NDArray[Any]], masks: Iterable[npt.NDArray[Any]], classes: int, ignore: int = 255
) -> Dense:
    """mIoU over the pixels of all images together, those whose mask holds `ignore` left out.

    `logits` are batches ``(N, classes, h, w)``, enlarged to their masks where they are coarser; `masks` are batches
    ``(N, H, W)`` of integers. A class that neither masks nor answers hold does not count. Raises `MeasurementError`.
    """
    predictions: list[npt.NDArray[Any]] = []
    truth: list[npt.NDArray[Any]] = []
    for answered, mask in zip(logits, masks, strict=True):
        _check_maps(answered, mask, classes, ignore)
        predictions += list(enlarge(answered, (mask.shape[1], mask.shape[2])).argmax(1).astype(np.uint8))
        truth += list(mask)
    return masks_score(predictions, truth, classes, ignore)


def masks_score(
    predictions: Sequence[npt.NDArray[Any]], masks: Sequence[npt.NDArray[Any]], classes: int, ignore: int = 255
) -> Dense:
    """mIoU as in `segmentation_score`, from class maps ``(H, W)``, one per image. Raises `MeasurementError`."""
    _import_torchvision_first()
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    if not any((mask != ignore).any() for mask in masks):
        raise MeasurementError(
            "mIoU was not measured", why="no image has a labelled pixel" if len(masks) else "no images"
        )
    metric = MulticlassJaccardIndex(
        classes, average="none", ignore_index=ignore, zero_division=float("nan"), validate_args=False
    )
    for answer, mask in zip(predictions, masks, strict=True):
        metric.update(torch.from_numpy(answer.astype(np.int64)), torch.from_numpy(mask.astype(np.int64)))
    values = metric.compute().tolist()
    return _dense([None if np.isnan(value) else value for value in values], len(masks))


def chance_score(
    predictions: Sequence[npt.NDArray[Any]], masks: Sequence[npt.NDArray[Any]], classes: int, ignore: int = 255
) -> float:
    """The mIoU in percent to expect if the classes in `predictions` were dealt to the labelled pixels at random."""
    answered, true = (np.zeros(classes) for _ in range(2))
    for answer, mask in zip(predictions, masks, strict=True):
        labelled = mask != ignore
        answered += np.bincount(answer[labelled], minlength=classes)[:classes]
        true += np.bincount(mask[labelled], minlength=classes)[:classes]
    answered, true = (counts / max(counts.sum(), 1) for counts in (answered, true))
    both = answered * true
    union = answered + true - both
    return float(100 * (both[union > 0] / union[union > 0]).mean()) if union.any() else 0.0


def detection_score(
    predictions: Sequence[Detections], truth: Sequence[Boxes], classes: int, overlap: float | None = 0.5
) -> Dense:
    """mAP: the mean over classes of average precision at an `overlap`, COCO's 101 points of recall, in percent.

    `overlap` None averages 0.50, 0.55 to 0.95 as COCO does. `predictions` and `truth` hold one entry per image, in the
    same order; give boxes of low score too, down to 0.01 or so, since precision is averaged over all recalls. A class
    that `truth` lacks does not count. Raises `MeasurementError`.
    """
    _check_boxes(predictions, truth, classes)
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    reference = COCO()
    reference.dataset = {
        "images": [{"id": image} for image in range(len(truth))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": _rows([(each.boxes, each.labels, None) for each in truth]),
    }
    answers = COCO()
    answers.dataset = reference.dataset | {
        "annotations": _rows([(each.boxes, each.labels, each.scores) for each in predictions])
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every step
        reference.createIndex()
        answers.createIndex()
        evaluation = COCOeval(reference, answers, "bbox")
        if overlap is not None:
            evaluation.params.iouThrs = np.array([overlap])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (overlaps, recalls, classes); -1 where there is no truth
    values = [float(precision[:, :, label].mean()) for label in range(classes)]
    return _dense([None if value < 0 else value for value in values], len(truth))


def _rows(images: Iterable[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]]) -> list[dict[str, Any]]:
    """COCO's annotations: boxes as x, y, width, height; identifiers from 1, because 0 means unmatched."""
    rows: list[dict[str, Any]] = []
    for image, (boxes, labels, scores) in enumerate(images):
        for index, (box, label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
            x0, y0, x1, y1 = box
            row = {"id": len(rows) + 1, "image_id": image, "category_id": label, "iscrowd": 0}
            row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            rows.append(row if scores is None else row | {"score": float(scores[index])})
    return rows


def _dense(shares: Sequence[float | None], images: int) -> Dense:
    present = [share for share in shares if share is not None]
    per_class = tuple(None if share is None else 100 * share for share in shares)
    return Dense(100 * sum(present) / len(present), per_class, images)


def _check_maps(logits: npt.NDArray[Any], mask: npt.NDArray[Any], classes: int, ignore: int) -> None:
    if logits.ndim != 4 or mask.ndim != 3 or logits.shape[:2] != (len(mask), classes):
        raise MeasurementError(
            f"the network answered masks {list(mask.shape)} with shape {list(logits.shape)}",
            why=f"must be ({len(mask)}, {classes}, height, width)",
        )
    if np.isnan(logits).any():
        raise MeasurementError("the network answered with NaN", why="such scores have no largest class")
    strange = np.setdiff1d(mask, [*range(classes), ignore])
    if mask.dtype.kind not in "iu" or len(strange):
        raise MeasurementError(
            f"masks hold {mask.dtype} {strange[:3].tolist()}", why=f"must be integers below {classes}, or {ignore}"
        )


def _check_boxes(predictions: Sequence[Detections], truth: Sequence[Boxes], classes: int) -> None:
    if len(predictions) != len(truth):
        raise MeasurementError(f"boxes of {len(predictions)} images", why=f"labels are for {len(truth)}")
    if not any(len(each.labels) for each in truth):
        raise MeasurementError("mAP was not measured", why="no image holds a box" if truth else "no images")
    everything: list[Detections | Boxes] = [*predictions, *truth]
    for each in everything:
        if each.boxes.shape != (len(each.labels), 4):
            raise MeasurementError(f"boxes {list(each.boxes.shape)} with {len(each.labels)} labels")
        if len(each.labels) and not 0 <= each.labels.min() <= each.labels.max() < classes:
            raise MeasurementError(f"labels up to {each.labels.max()}", why=f"must be 0 to {classes - 1}")
        numbers = each.boxes if isinstance(each, Boxes) else np.column_stack([each.boxes, each.scores])
        if not np.isfinite(numbers).all():
            raise MeasurementError("boxes or scores are not finite")


def _import_torchvision_first() -> None:
    """Import torchvision in the way that works beside a CPU torch, before torchmetrics imports it and fails."""
    if importlib.util.find_spec("torchvision") is not None:
        from edgeq.model.torchvision import import_torchvision

        import_torchvision()
