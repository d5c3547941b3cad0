"""What changed in accuracy from one build to another, judged image by image where both answered the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.measure.answers import Answers
from edgeq.measure.paired import bootstrap_interval, mean_iou
from edgeq.measure.statistics import LEVEL, images_to_decide, paired_interval, sign_test
from edgeq.report.finished import FinishedBuild

__all__ = ["SCORES", "Change", "error_change", "score_change"]

PAIRED = "Bonett-Price interval, exact McNemar test"
WIDEST = "Bonett-Price interval, for as many changed answers as the scores allow"
SCORES = "both scores alone"
BOOTSTRAP = "paired bootstrap over images, percentile interval"

TINY = 1e-12
"""A mean error below this is none: the ratio to it says nothing."""


@dataclass(frozen=True)
class Change:
    """`value` is the difference of the files' scores in points, after minus before, or the ratio of their errors.

    `low` to `high` is its interval at 95 %, by `method`; None where there is none, and `why` then says why. Of images
    that are right or wrong, `gained` became right and `lost` wrong, of which `p_value` is the exact McNemar test, and
    `same` is the share with the same answer. `n` images (or pairs) were compared.
    """

    what: str
    before: float
    after: float
    value: float
    n: int = 0
    low: float | None = None
    high: float | None = None
    method: str = ""
    why: str = ""
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None
    same: float | None = None

    def needed(self, limit: float) -> int | None:
        """Images that would decide on which side of `limit` the change lies."""
        return None if self.low is None or self.high is None else images_to_decide(self.n, self.low, self.high, limit)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "level": LEVEL}


def score_change(before: FinishedBuild, after: FinishedBuild) -> Change | None:
    """The change of the score of the integer file; None where either build has none."""
    one, other = before.score, after.score
    if one is None or other is None or before.metric != after.metric:
        return None
    plain = Change(after.metric, one, other, other - one)
    if why := _not_the_same_images(before, after):
        return _replace(plain, why=why)
    n = int(after.report.number("accuracy", "n") or 0)
    plain = _replace(plain, n=n)
    if before.answers is None or after.answers is None:
        whose, lacking = ("the baseline", before) if before.answers is None else ("this build", after)
        bounded = _widest(plain, n) if before.metric in ("top-1", "verification") else plain
        return _replace(bounded, why=f"{whose} {lacking.why}")
    if "label" in after.answers.arrays and "label" in before.answers.arrays:
        same_file = before.report.value("artifact", "sha256") == after.report.value("artifact", "sha256")
        return _of_decisions(plain, before.answers, after.answers, same_file)
    if "integer_areas" in after.answers.arrays and "integer_areas" in before.answers.arrays:
        return _of_areas(plain, before.answers, after.answers)
    return _replace(plain, method=SCORES, why=f"{after.metric} is not an average over images")


def error_change(before: FinishedBuild, after: FinishedBuild) -> tuple[str, Change] | None:
    """The output whose mean error grew most, and the ratio of its errors; None where real values were not measured.

    The error is the distance to what is true, where that is known, else to the float network's answer.
    """
    rows, others = (each.report.value("regression", "outputs") or [] for each in (before, after))
    if not (rows and others) and not all(each.report.section("embedding") for each in (before, after)):
        return None
    if why := _not_the_same_images(before, after):
        return "", Change("error", 0.0, 0.0, 1.0, why=why)
    if before.answers is None or after.answers is None:
        whose, lacking = ("the baseline", before) if before.answers is None else ("this build", after)
        return "", Change("error", 0.0, 0.0, 1.0, why=f"{whose} {lacking.why}")
    both = (before.answers.arrays, after.answers.arrays)
    kind = "error" if all("error" in arrays for arrays in both) else "difference"
    if any(kind not in arrays for arrays in both) or both[0][kind].shape != both[1][kind].shape:
        return "", Change("error", 0.0, 0.0, 1.0, why="the builds have other outputs")
    what = "mean error" if kind == "error" else "mean difference to the float network"
    pairs = np.stack([arrays[kind] for arrays in both], -1)  # (N, outputs, 2)
    means = pairs.mean(0)
    if (means[:, 0] < TINY).any():
        return "", Change(what, 0.0, 0.0, 1.0, why="the baseline has no error to compare with")
    worst = int(np.argmax(means[:, 1] / means[:, 0]))
    low, high = bootstrap_interval(pairs[:, worst], lambda sums: sums[:, 1] / np.maximum(sums[:, 0], TINY))
    one, other = (float(mean) for mean in means[worst])
    names = [str(row.get("name")) for row in others if isinstance(row, dict)]
    name = names[worst] if worst < len(names) else ""
    return name, Change(what, one, other, other / one, len(pairs), low, high, BOOTSTRAP)


def _not_the_same_images(before: FinishedBuild, after: FinishedBuild) -> str:
    for section in ("accuracy", "regression", "embedding"):
        one, other = (each.report.value(section, "sha256") for each in (before, after))
        if one != other or (one is None and after.report.section(section)):
            return "the builds were measured on different images"
    return ""


def _widest(plain: Change, n: int) -> Change:
    """The widest interval that fits the scores: as many answers changed as can have."""
    one, other = (round(score * n / 100) for score in (plain.before, plain.after))
    gained = min(n - one, other)
    low, high = paired_interval(gained, gained + one - other, n)
    return _replace(plain, n=n, low=100 * low, high=100 * high, method=WIDEST)


def _of_decisions(plain: Change, before: Answers, after: Answers, same_file: bool) -> Change:
    one, other, n = before.right(), after.right(), len(after.arrays["label"])
    if one is None or other is None or not np.array_equal(before.arrays["label"], after.arrays["label"]):
        return _replace(plain, why="the builds were measured on different images")
    gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
    low, high = paired_interval(gained, lost, n)
    same = float((before.arrays["integer"] == after.arrays["integer"]).mean())
    if same_file and same == 1:
        low = high = 0.0  # one file with one set of answers: nothing is left to chance
    return _replace(
        plain,
        n=n,
        low=100 * low,
        high=100 * high,
        method=PAIRED,
        gained=gained,
        lost=lost,
        p_value=sign_test(gained, lost),
        same=same,
    )


def _of_areas(plain: Change, before: Answers, after: Answers) -> Change:
    one, other = (answers.arrays["integer_areas"] for answers in (before, after))
    if one.shape != other.shape:
        return _replace(plain, why="the builds have other classes")
    low, high = bootstrap_interval(np.stack([one, other], 1), lambda sums: mean_iou(sums[:, 1]) - mean_iou(sums[:, 0]))
    return _replace(plain, n=len(one), low=low, high=high, method=BOOTSTRAP)


def _replace(change: Change, **values: Any) -> Change:
    return Change(**{**vars(change), **values})
