"""Answers that are real values: how far two networks' answers are apart, in the outputs' own units, and from the truth.

Embeddings are compared by the angle between the vectors of one image, and, where pairs of images are known, by
verification: two images are the same where the cosine of their vectors reaches a threshold.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import MeasurementError
from edgeq.measure.accuracy import Accuracy, compare
from edgeq.model.tasks import Regression

__all__ = ["Embeddings", "Values", "compare_embeddings", "compare_values"]

Array = npt.NDArray[np.float64]

APART = 32
"""Most values of an image that a report lists one by one; of more, each output is one row."""

FOLDS = 10
"""Parts of the pairs of a verification, as the LFW protocol has it (Huang et al. 2007): the threshold for each part is
the best one of the others."""

BEST_DB = 120.0
"""Signal to noise of equal answers."""


@dataclass(frozen=True, eq=False)
class Values:
    """A regressor's answers: `outputs`, each ``(N, k)`` float64, and `truths` ``(N, K)``, K 0 where none are known."""

    task: Regression
    outputs: tuple[Array, ...]
    truths: Array

    @property
    def n(self) -> int:
        return len(self.truths)

    def columns(self) -> list[tuple[str, str, Array, Array | None]]:
        """Rows of a report: name, unit, answers ``(N, k)``, and what is true ``(N, k)``."""
        whole = np.concatenate(self.outputs, 1)
        known = self.truths if self.truths.shape[1] else None
        if known is not None and known.shape[1] != whole.shape[1]:
            raise MeasurementError(
                f"the network answered with {whole.shape[1]} values per image", why=f"{known.shape[1]} are known"
            )
        names, total = self.task.names, whole.shape[1]
        if names and len(names) != total:
            raise MeasurementError(
                f"the network answered with {total} values per image", why=f"[task] names {len(names)}"
            )
        if names or total <= APART:
            parts = [(names[i] if names else f"value {i}", i, i + 1) for i in range(total)]
        else:
            ends = np.cumsum([0, *(output.shape[1] for output in self.outputs)]).tolist()
            parts = [(f"output {i}", *pair) for i, pair in enumerate(itertools.pairwise(ends))]
        return [
            (name, self.task.unit(i), whole[:, low:high], None if known is None else known[:, low:high])
            for i, (name, low, high) in enumerate(parts)
        ]

    def to_json(self) -> dict[str, Any]:
        """Per value of the output its name, unit, smallest and largest answer, and its errors from known truths."""
        return {
            "outputs": [
                {"name": name, "unit": unit, "low": float(answers.min()), "high": float(answers.max())}
                | _errors(answers, known)
                for name, unit, answers, known in self.columns()
            ]
        }


def _errors(answers: Array, known: Array | None) -> dict[str, float]:
    if known is None:
        return {}
    apart = answers - known
    return {"mae": float(np.abs(apart).mean()), "rmse": float(np.sqrt((apart**2).mean()))}


def compare_values(before: Values, after: Values) -> dict[str, Any]:
    """The `regression` section of a report: float `before`, integer `after`, on the same images in the same order."""
    if before.n != after.n:
        raise MeasurementError("two regressions cannot be compared", why="they were measured on different images")
    rows = []
    for (name, unit, want, known), (_, _, got, _) in zip(before.columns(), after.columns(), strict=True):
        apart = np.abs(want - got)
        row = {
            "name": name,
            "unit": unit,
            "mean_difference": float(apart.mean()),
            "p95_difference": float(np.quantile(apart, 0.95)),
            "max_difference": float(apart.max()),
            "snr_db": _snr(want, got),
            "low": float(want.min()),
            "high": float(want.max()),
            "beyond": _beyond(want, got),
        }
        if known is not None:
            row |= {"float": _errors(want, known), "integer": _errors(got, known)}
        rows.append(row)
    return {"n": before.n, "outputs": rows}


def _snr(want: Array, got: Array) -> float:
    """Power of the float answers over that of the difference, in decibels, between -`BEST_DB` and `BEST_DB`."""
    signal, noise = float((want**2).mean()), float(((want - got) ** 2).mean())
    if noise == 0:
        return BEST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -BEST_DB, BEST_DB))


def _beyond(want: Array, got: Array) -> float:
    """Share of float answers that lie more than a step beyond every integer one: what saturates."""
    steps = np.diff(np.unique(got))
    step = float(steps.min()) if len(steps) else 0.0
    return float(((want > got.max() + step) | (want < got.min() - step)).mean())


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A network's vectors ``(N, D)``, each of length 1, and what is known of pairs of them.

    `pairs` ``(P, 2)`` are images, `same` ``(P,)`` whether they show the same; P may be 0.
    """

    vectors: Array
    pairs: npt.NDArray[np.int64]
    same: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, answers: Array, truths: Sequence[Any]) -> Embeddings:
        """Vectors of `answers` ``(N, D)`` and pairs of `truths` (`edgeq.data.values.check_pairs`).

        Raises `MeasurementError` for a vector of zeros, which has no direction.
        """
        length = np.linalg.norm(answers, axis=1, keepdims=True)
        if not (length > 0).all():
            raise MeasurementError(
                "an embedding is all zeros", why=f"image {int(np.argmin(length))}", hint="its range may be too coarse"
            )
        places = {int(own[0]): place for place, (own, _) in enumerate(truths)}
        known = [
            (places[int(own[0])], places[int(other)], alike)
            for own, rows in truths
            for other, alike in rows.tolist()
            if int(other) in places
        ]
        pairs = np.array([pair[:2] for pair in known], np.int64).reshape(-1, 2)
        return cls(answers / length, pairs, np.array([pair[2] for pair in known], bool))

    @property
    def n(self) -> int:
        return len(self.vectors)

    def cosines(self) -> Array:
        """Cosine of the two vectors of each pair, ``(P,)``."""
        return np.asarray((self.vectors[self.pairs[:, 0]] * self.vectors[self.pairs[:, 1]]).sum(1))

    def verified(self) -> tuple[Accuracy, float]:
        """Decisions on all pairs, each by the threshold that is best on the other folds, and the mean threshold."""
        cosines, folds = self.cosines(), np.arange(len(self.pairs)) % min(FOLDS, len(self.pairs))
        decided, thresholds = np.zeros(len(cosines), np.int64), []
        for fold in range(int(folds.max()) + 1):
            mine = folds == fold
            thresholds.append(best_threshold(cosines[~mine], self.same[~mine]))
            decided[mine] = cosines[mine] >= thresholds[-1]
        return Accuracy(decided, self.same.astype(np.int64), None), float(np.mean(thresholds))

    def to_json(self) -> dict[str, Any]:
        """Verification accuracy in percent as `score`, and its threshold; nothing where no pairs are known."""
        if len(self.pairs) < 2:
            return {}
        decided, threshold = self.verified()
        return {"score": decided.top1, "threshold": threshold}


def best_threshold(cosines: Array, same: npt.NDArray[np.bool_]) -> float:
    """The threshold with most pairs decided right: half-way between two cosines, the lowest of equally good ones."""
    order = np.argsort(cosines, kind="stable")
    sorted_cosines, sorted_same = cosines[order], same[order]
    # Below the cut are `different`, from it on `same`.
    right = (
        np.concatenate([[0], np.cumsum(~sorted_same)])
        + sorted_same.sum()
        - np.concatenate([[0], np.cumsum(sorted_same)])
    )
    ends = np.concatenate([[-1.0], sorted_cosines, [1.0]])
    possible = np.concatenate([[True], np.diff(sorted_cosines) > 0, [True]])
    cut = int(np.argmax(np.where(possible, right, -1)))
    return float((ends[cut] + ends[cut + 1]) / 2)


def compare_embeddings(before: Embeddings, after: Embeddings) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The `embedding` section of a report, and the `accuracy` section where pairs are known; float `before`."""
    if before.vectors.shape != after.vectors.shape or not np.array_equal(before.pairs, after.pairs):
        raise MeasurementError("two embeddings cannot be compared", why="they were measured on different images")
    cosines = np.clip((before.vectors * after.vectors).sum(1), -1, 1)
    section: dict[str, Any] = {
        "n": before.n,
        "values": before.vectors.shape[1],
        "cosine_mean": float(cosines.mean()),
        "cosine_p5": float(np.quantile(cosines, 0.05)),
        "cosine_min": float(cosines.min()),
    }
    if len(before.pairs) < 2:
        return section, None
    (one, threshold), (other, own) = before.verified(), after.verified()
    kept = (after.cosines() >= threshold) == after.same
    section |= {
        "pairs": len(before.pairs),
        "folds": min(FOLDS, len(before.pairs)),
        "threshold_float": threshold,
        "threshold_integer": own,
        "score_at_float_threshold": 100.0 * float(kept.mean()),
    }
    accuracy = {"metric": "verification"} | compare(one, other).to_json()
    for which in ("float", "integer"):
        accuracy[which] = {"score": accuracy[which]["score"]}
    return section, accuracy
