"""What two networks answered to each image, reduced to what a later comparison of builds needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.measure.accuracy import Accuracy
from edgeq.measure.answers import Answers
from edgeq.measure.tasks import Measured, Predictions
from edgeq.measure.values import Embeddings, Values
from edgeq.model.tasks import Segmentation

__all__ = ["answers_of"]

Array = npt.NDArray[Any]


def answers_of(before: Measured, after: Measured, images: str) -> Answers | None:
    """Answers of the float network `before` and the file `after` to the images whose hash is `images`.

    None for detectors: mean average precision ranks the boxes of all images together.
    """
    if isinstance(before, Accuracy) and isinstance(after, Accuracy):
        return Answers(images, _decisions(before, after))
    if isinstance(before, Embeddings) and isinstance(after, Embeddings):
        cosines = np.clip((before.vectors * after.vectors).sum(1, keepdims=True), -1, 1)
        verified = _decisions(before.verified()[0], after.verified()[0]) if len(before.pairs) > 1 else {}
        return Answers(images, {"difference": 1 - cosines} | verified)
    if isinstance(before, Values) and isinstance(after, Values):
        return Answers(images, _errors(before, after))
    if isinstance(before, Predictions) and isinstance(after, Predictions) and isinstance(before.task, Segmentation):
        classes, ignore = len(before.task.classes), before.task.ignore
        areas = {
            f"{name}_areas": np.stack([_areas(*pair, classes, ignore) for pair in zip(each.found, truths, strict=True)])
            for name, each, truths in (("float", before, before.truths), ("integer", after, after.truths))
        }
        return Answers(images, areas)
    return None


def _decisions(before: Accuracy, after: Accuracy) -> dict[str, Array]:
    return {"label": before.labels, "float": before.predictions, "integer": after.predictions}


def _errors(before: Values, after: Values) -> dict[str, Array]:
    columns = list(zip(before.columns(), after.columns(), strict=True))
    errors = {"difference": _means([np.abs(want - got) for (_, _, want, _), (_, _, got, _) in columns])}
    known = [np.abs(got - true) for _, (_, _, got, true) in columns if true is not None]
    if known:
        errors["error"] = _means(known)
    return errors


def _means(columns: Sequence[Array]) -> Array:
    return np.stack([column.mean(1) for column in columns], 1)


def _areas(answer: Array, mask: Array, classes: int, ignore: int) -> Array:
    """Pixels of each class ``(C, 2)``: where answer and mask meet, and where either has it; without ignored ones."""
    labelled = mask != ignore
    given, true = (np.asarray(each[labelled], np.int64) for each in (answer, mask))
    meet, covered, known = (
        np.bincount(each, minlength=classes)[:classes] for each in (given[given == true], given, true)
    )
    return np.stack([meet, covered + known - meet], 1)
