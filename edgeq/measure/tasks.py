"""One interface to measure every task: a network's answers, their score, and the agreement of two networks.

Classifiers are counted right or wrong (`edgeq.measure.accuracy`). Segmenters and detectors are scored by `Dense`:
their scores are not averages over images, so a difference has no interval. Regressors and embeddings are compared
value by value (`edgeq.measure.values`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.config.tasks import UNSCORED
from edgeq.errors import MeasurementError
from edgeq.formats.session import Session
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run as run_reference
from edgeq.measure.accuracy import Accuracy, check_finite, compare, evaluate
from edgeq.measure.dense import Boxes, Dense, chance_score, detection_score, enlarge, masks_score
from edgeq.measure.disagreements import compare_boxes, compare_classes, compare_maps
from edgeq.measure.values import Embeddings, Values, compare_embeddings, compare_values
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import DETECTIONS, Detection, GridDetection, Regression, Segmentation

if TYPE_CHECKING:
    import torch

__all__ = [
    "METRICS",
    "Measured",
    "Predictions",
    "Predictor",
    "compare_predictions",
    "make_predictor",
    "measure_predictions",
]

METRICS = {"classification": "top-1", "segmentation": "mIoU", "detection": "mAP@0.5"}

LOWEST = 0.01
"""Lowest score of boxes that count in mean average precision, which needs boxes of every recall."""

DETECTED = 1.0
"""Largest mAP, in percent, that a detector reaches by chance."""

Array = npt.NDArray[Any]
Predictor = Callable[[npt.NDArray[np.float32]], Sequence[Array]]
"""A function from normalised images ``(N, C, H, W)`` to all outputs of a network."""

Batches = Iterable[tuple[npt.NDArray[np.float32], Array]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """A dense network's answers, per image a class map ``(H, W)`` or `Detections`, and their score."""

    task: Segmentation | Detection | GridDetection
    found: Sequence[Any]
    scored: Dense
    truths: Sequence[Any]

    @property
    def n(self) -> int:
        return self.scored.n

    @property
    def score(self) -> float:
        return self.scored.score

    @property
    def chance(self) -> float:
        """The score, in percent, that these answers would reach by chance.

        For a segmenter the mIoU expected if its classes were dealt to the pixels at random; 1 for a detector, since
        boxes that are placed anywhere find next to nothing.
        """
        if isinstance(self.task, DETECTIONS):
            return DETECTED
        return chance_score(self.found, self.truths, len(self.task.classes), self.task.ignore)

    def to_json(self) -> dict[str, Any]:
        names = self.task.classes
        per_class = {name: value for name, value in zip(names, self.scored.per_class, strict=True) if value is not None}
        return {"score": self.score, "per_class": per_class}


Measured = Accuracy | Predictions | Values | Embeddings
"""What a network answered, by task."""


def make_predictor(model: Session | torch.nn.Module | IntegerGraph) -> Predictor:
    """Make a function to all outputs, from a runtime's session, a torch module, or a frozen graph's exact reference."""
    if isinstance(model, Session):
        return model.run
    if isinstance(model, IntegerGraph):
        grids, (entry,) = model.quantizations, model.inputs

        def run_exactly(inputs: npt.NDArray[np.float32]) -> list[Array]:
            answer = run_reference(model, grids[entry].quantize(inputs))
            return [grids[name].dequantize(answer[name]) for name in model.outputs]

        return run_exactly
    module = model

    def run(inputs: npt.NDArray[np.float32]) -> list[Array]:
        import torch

        with torch.inference_mode():
            answer = module(torch.from_numpy(inputs))
        outputs = (
            list(answer.values())
            if isinstance(answer, dict)
            else answer
            if isinstance(answer, list | tuple)
            else [answer]
        )
        return [output.float().cpu().numpy() for output in outputs]

    return run


def _only(outputs: Sequence[npt.NDArray[np.float32]], whose: str) -> npt.NDArray[np.float32]:
    if not outputs:
        raise MeasurementError(f"{whose} has no output", hint="is the file whole?")
    return outputs[0]


def measure_predictions(
    run: Predictor,
    batches: Batches,
    spec: ModelSpec,
    done: Callable[[int], None] | None = None,
    whose: str = "the network",
) -> Measured:
    """What `run` answers to all `batches` of images and truths; `done` hears how many images are finished.

    Raises `MeasurementError`, which names the network as `whose`, for no images, or for outputs that are not what the
    task says or not finite.
    """
    if spec.task == "classification":
        return evaluate(lambda inputs: _only(run(inputs), whose), batches, done, whose)
    if spec.task in UNSCORED:
        return _measure_values(run, batches, spec, done, whose)
    task = spec.dense
    if not isinstance(task, Segmentation | Detection | GridDetection):
        raise MeasurementError(
            f"{spec.name} was not measured",
            why="nothing says what its outputs mean",
            hint="add a [task] table to model.toml",
        )
    predictions: list[Any] = []
    truths: list[Any] = []
    _, height, width = spec.input_shape
    anchors = task.anchors((height, width)) if isinstance(task, Detection) else None
    for inputs, expected in batches:
        outputs = run(inputs)
        for output in outputs:
            check_finite(output, whose)
        if anchors is not None and isinstance(task, Detection):
            ordered = sorted(outputs, key=lambda rows: rows.shape[-1] == 4)  # runtimes may list the deltas first
            predictions += task.detect(ordered, anchors, LOWEST)
        elif isinstance(task, GridDetection):
            predictions += task.detect(outputs, LOWEST)
        else:
            predictions += list(_classes(outputs[0], task.outputs, (height, width)))
        truths += list(expected)
        if done is not None:
            done(len(truths))
    if not truths:
        raise MeasurementError("accuracy was not measured", why="there are no images")
    if isinstance(task, DETECTIONS):
        known = [Boxes(boxes, labels) for boxes, labels in truths]
        return Predictions(task, predictions, detection_score(predictions, known, len(task.classes)), truths)
    return Predictions(task, predictions, masks_score(predictions, truths, len(task.classes), task.ignore), truths)


def _measure_values(
    run: Predictor, batches: Batches, spec: ModelSpec, done: Callable[[int], None] | None, whose: str
) -> Values | Embeddings:
    parts: list[list[Array]] = []
    truths: list[Any] = []
    for inputs, expected in batches:
        outputs = run(inputs)
        for output in outputs:
            check_finite(output, whose)
        parts.append([np.asarray(output, np.float64).reshape(len(inputs), -1) for output in outputs])
        truths += list(expected)
        if done is not None:
            done(len(truths))
    if not parts:
        raise MeasurementError("answers were not measured", why="there are no images")
    whole = tuple(np.concatenate(column) for column in zip(*parts, strict=True))
    if spec.task == "embedding":
        return Embeddings.of(np.asarray(_only(whole, whose), np.float64), truths)
    task = spec.dense if isinstance(spec.dense, Regression) else Regression()
    return Values(task, whole, np.array(truths, np.float64).reshape(len(truths), -1))


def compare_predictions(before: Measured, after: Measured, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Sections of a report: float `before`, integer `after`, on the same images in the same order.

    `labels` are the names of a classifier's classes, where they are known.

    `accuracy` is None for what has no score; `regression` and `embedding` are there for these tasks only.
    """
    if isinstance(before, Values) and isinstance(after, Values):
        return {"accuracy": None, "regression": compare_values(before, after)}
    if isinstance(before, Embeddings) and isinstance(after, Embeddings):
        section, accuracy = compare_embeddings(before, after)
        return {"accuracy": accuracy, "embedding": section}
    return {"accuracy": _compare_scores(before, after, labels)}


def _compare_scores(before: Measured, after: Measured, labels: Sequence[str]) -> dict[str, Any]:
    if isinstance(before, Accuracy) and isinstance(after, Accuracy):
        compared = compare(before, after).to_json() | compare_classes(before, after, labels)
        return {"metric": METRICS["classification"]} | compared
    if not isinstance(before, Predictions) or not isinstance(after, Predictions) or before.n != after.n:
        raise MeasurementError("two accuracies cannot be compared", why="they were measured on different images")
    task, found = before.task, (before.found, after.found)
    if isinstance(task, DETECTIONS):
        metric, compared = METRICS["detection"], compare_boxes(*found, task.score)
    else:
        metric, compared = METRICS["segmentation"], compare_maps(*found, before.truths, task.classes, task.ignore)
    return {
        "metric": metric,
        "n": before.n,
        "chance": before.chance,
        "float": before.to_json(),
        "integer": after.to_json(),
        "difference": {"points": after.score - before.score},
    } | compared


def _classes(logits: Array, classes: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if logits.ndim != 4 or logits.shape[1] != classes:
        raise MeasurementError(
            f"the network answered with shape {list(logits.shape)}", why=f"must be (N, {classes}, height, width)"
        )
    return np.asarray(enlarge(logits, size).argmax(1), np.uint8)
