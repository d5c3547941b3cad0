"""What a build lost, in one line, and how bad that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgeq.report.metric import metric_of, score_of

__all__ = ["Grade", "Loss", "loss_of"]

Grade = Literal["good", "fair", "poor"]

KEPT = 0.99
"""Share of the float score that a quantized network must keep to count as the same one: MLPerf Inference's rule for
its closed division."""


@dataclass(frozen=True)
class Loss:
    """`points` is integer minus float. `grade` is ``poor`` where the integer score is below `KEPT` of the float one and
    chance does not explain that, ``fair`` where one of these holds or the images are too few to tell, else ``good``."""

    points: float
    text: str
    grade: Grade


def loss_of(report: Mapping[str, Any]) -> Loss | None:
    """The change of the score, None where no accuracy was measured. `report` is whole."""
    accuracy = report.get("accuracy")
    before, after = score_of(accuracy, "float"), score_of(accuracy, "integer")
    if accuracy is None or before is None or after is None:
        return None
    points = after - before
    high = (accuracy.get("difference") or {}).get("high")
    is_large = after < KEPT * before
    is_real = points < 0 and (high is None or high < 0)
    grade: Grade = "poor" if is_large and is_real else "fair" if is_large or (is_real and high is not None) else "good"
    verb = f"lost {-points:.2f} points" if points < 0 else f"gained {points:.2f} points" if points else "lost nothing"
    text = f"{verb} of {metric_of(accuracy)}: {before:.2f} % in float, {after:.2f} % in integers"
    if is_large and not is_real:
        text += f" (too few images to tell: {accuracy['n']:,})"
    return Loss(points, text[0].upper() + text[1:], grade)
