"""Accuracy on labelled images, and what changed between the float network and the integer file.

Both answer the same images, so the difference is judged on the images whose answer changed, which is far sharper than
two accuracies side by side.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import MeasurementError
from edgeq.formats.session import Session
from edgeq.measure.statistics import LEVEL, paired_interval, sign_test, wilson_interval

if TYPE_CHECKING:
    import torch

__all__ = [
    "Accuracy",
    "Comparison",
    "LogitsFunction",
    "agreement",
    "check_finite",
    "compare",
    "evaluate",
    "logits_function",
]

LogitsFunction = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating[Any]]]
"""A function from normalised images ``(N, C, H, W)`` to logits ``(N, classes)``."""

Batches = Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
"""Pairs of normalised images and their labels ``(N,)``, as `EvaluationSet.batches` yields them."""

TOP5_CLASSES = 6
"""Fewest classes for which top-5 is reported; with five or fewer every answer is in the top five."""


@dataclass(frozen=True, eq=False)
class Accuracy:
    """A classifier's answers to `n` images: `predictions` and `labels` int64 ``(N,)``; `top1`, `top5` in percent.

    Between equal logits, common among integers, the lower class wins, as it does in an argmax on a device. A network of
    one logit decides by its sign: class 1 above 0, else class 0. `top5` is None with fewer than `TOP5_CLASSES` classes.
    """

    predictions: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    top5: float | None

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        return np.equal(self.predictions, self.labels)

    @property
    def top1(self) -> float:
        return 100.0 * int(self.correct.sum()) / self.n

    @property
    def score(self) -> float:
        """The task's figure under its common name: `top1`."""
        return self.top1

    @property
    def chance(self) -> float:
        """The `top1` expected, in percent, if these answers were dealt to the images at random (Cohen 1960).

        It is all of `top1` for a network that gives every image the same answer, and for images of one class.
        """
        classes = np.union1d(self.predictions, self.labels)
        answered, true = ((values == classes[:, None]).mean(1) for values in (self.predictions, self.labels))
        return float(100.0 * answered @ true)

    def to_json(self) -> dict[str, Any]:
        """`top1` (also as `score`), `top5` and the 95 % interval of `top1` (Wilson), all in percent."""
        low, high = wilson_interval(int(self.correct.sum()), self.n)
        return {"score": self.top1, "top1": self.top1, "top5": self.top5, "top1_interval": [100 * low, 100 * high]}


@dataclass(frozen=True)
class Comparison:
    """The integer file against the float network on the same images.

    `points` is integer minus float top-1 in percentage points, within `low`..`high` at confidence `level` (Bonett and
    Price 2012); `gained` images became right, `lost` became wrong, and `p_value` is how likely so uneven a split is by
    chance (exact McNemar test). `agreement` is the share of images, 0 to 1, given the same answer, right or wrong.
    """

    before: Accuracy
    after: Accuracy
    agreement: float
    points: float
    low: float
    high: float
    gained: int
    lost: int
    p_value: float
    level: float = LEVEL

    def to_json(self) -> dict[str, Any]:
        """The `accuracy` section of a report."""
        return {
            "n": self.before.n,
            "chance": self.before.chance,
            "float": self.before.to_json(),
            "integer": self.after.to_json(),
            "agreement": self.agreement,
            "difference": {
                "points": self.points,
                "low": self.low,
                "high": self.high,
                "level": self.level,
                "gained": self.gained,
                "lost": self.lost,
                "p_value": self.p_value,
                "method": "Bonett-Price interval, exact McNemar test",
            },
        }


def evaluate(
    run: LogitsFunction, batches: Batches, done: Callable[[int], None] | None = None, whose: str = "the network"
) -> Accuracy:
    """The answers of `run` (see `logits_function`) to all `batches`; `done` hears how many images are finished.

    Raises `MeasurementError`, which names the network as `whose`, for no images, or for logits that are not
    ``(N, classes)`` finite numbers.
    """
    predictions: list[npt.NDArray[np.int64]] = []
    labels: list[npt.NDArray[np.int64]] = []
    in_five = classes = 0
    for inputs, expected in batches:
        logits = _check_logits(run(inputs), len(inputs), whose)
        classes = logits.shape[1]
        if classes == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)  # a tie goes to class 0, as in an argmax
        order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
        predictions.append(order[:, 0].astype(np.int64))
        labels.append(np.asarray(expected, np.int64))
        in_five += int((order == labels[-1][:, None]).any(axis=1).sum())
        if done is not None:
            done(sum(map(len, labels)))
    if not labels or not sum(map(len, labels)):
        raise MeasurementError("accuracy was not measured", why="there are no images")
    answers, truth = np.concatenate(predictions), np.concatenate(labels)
    return Accuracy(answers, truth, 100.0 * in_five / len(truth) if classes >= TOP5_CLASSES else None)


def _check_logits(logits: npt.NDArray[Any], images: int, whose: str) -> npt.NDArray[Any]:
    flat = np.asarray(logits)
    if flat.ndim < 2 or len(flat) != images or flat.size != images * flat.shape[1]:
        raise MeasurementError(
            f"{whose} answered {images} images with shape {list(flat.shape)}",
            why="must be one row of class scores each",
        )
    check_finite(flat, whose)
    return flat.reshape(images, -1).astype(np.float64)


def check_finite(outputs: npt.NDArray[Any], whose: str) -> None:
    """Raise `MeasurementError` where `outputs` of a network, called `whose`, hold NaN or infinities."""
    if not np.isfinite(outputs).all():
        kind = "NaN" if np.isnan(outputs).any() else "infinity"
        raise MeasurementError(
            f"{whose} answers with {kind}",
            why="such scores say nothing",
            hint="are the weights, mean and std those it was trained with?",
        )


def agreement(one: Accuracy, other: Accuracy) -> float:
    """Share of images, 0 to 1, to which both give the same answer."""
    _same_images(one, other)
    return int((one.predictions == other.predictions).sum()) / one.n


def compare(before: Accuracy, after: Accuracy) -> Comparison:
    """What changed from `before` (float) to `after` (integer), on the same images in the same order."""
    _same_images(before, after)
    gained = int((after.correct & ~before.correct).sum())
    lost = int((before.correct & ~after.correct).sum())
    low, high = paired_interval(gained, lost, before.n)
    return Comparison(
        before=before,
        after=after,
        agreement=agreement(before, after),
        points=100.0 * (gained - lost) / before.n,
        low=100 * low,
        high=100 * high,
        gained=gained,
        lost=lost,
        p_value=sign_test(gained, lost),
    )


def _same_images(one: Accuracy, other: Accuracy) -> None:
    if not np.array_equal(one.labels, other.labels):
        raise MeasurementError("two accuracies cannot be compared", why="they were measured on different images")


def logits_function(model: Session | torch.nn.Module, output: int = 0) -> LogitsFunction:
    """`model` as something `evaluate` can call: a runtime's session (its output number `output`), or a torch module,
    which answers wherever it is."""
    if isinstance(model, Session):
        return functools.partial(_run_session, model, output)
    return functools.partial(_run_module, model, output)


def _run_session(session: Session, output: int, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return session.run(inputs)[output]


def _run_module(module: torch.nn.Module, output: int, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import torch

    if module.training:
        raise MeasurementError("the network is in training mode", hint="call .eval() on it")
    device = next((t.device for t in itertools.chain(module.parameters(), module.buffers())), None)
    with torch.inference_mode():
        outputs = module(torch.from_numpy(inputs).to(device))
        chosen = outputs[output] if isinstance(outputs, list | tuple) else outputs
        if not isinstance(chosen, torch.Tensor):
            raise MeasurementError(f"the network answered with a {type(chosen).__name__}", why="must be class scores")
        numbers: npt.NDArray[np.float32] = chosen.float().cpu().numpy()
        return numbers
