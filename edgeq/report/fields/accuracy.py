"""Accuracy of a build: scores, real values and vectors, the integer file beside the float network."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET

from edgeq.report.fields.types import (
    Amount,
    Cosine,
    Count,
    Decibels,
    Float32,
    Maybe,
    Percent,
    Points,
    Positive,
    Section,
    Share,
    Text,
    says,
)

__all__ = ["Accuracy", "EmbeddingErrors", "RegressionErrors"]


class Answers(Section):
    """What one network scored."""

    score: Annotated[Percent, says("the task's figure in percent, `metric` says which")]
    top1: Maybe[Annotated[Percent, says("percent of images whose class was the first answer; classification")]] = UNSET
    top5: Maybe[
        Annotated[Percent | None, says("percent among the first five; null with fewer than 6 classes; classification")]
    ] = UNSET
    per_class: Maybe[Annotated[dict[Text, Percent], says("the same figure of each class; dense tasks")]] = UNSET
    top1_interval: Maybe[Annotated[list[Percent], says("95 % interval of top1 (Wilson), low and high")]] = UNSET


class Difference(Section):
    """Integer minus float; for classification judged on the images whose answer became right or wrong."""

    points: Annotated[Points, says("difference of the score in percentage points; negative is a loss")]
    low: Maybe[Annotated[Points, says("lower end of the interval of `points`")]] = UNSET
    high: Maybe[Annotated[Points, says("upper end")]] = UNSET
    level: Maybe[Annotated[Share, says("confidence level of the interval, 0.95")]] = UNSET
    gained: Maybe[Annotated[Count, says("images wrong in float and right in integers")]] = UNSET
    lost: Maybe[Annotated[Count, says("images right in float and wrong in integers")]] = UNSET
    p_value: Maybe[Annotated[Share, says("chance of so uneven a split of gained and lost if neither were better")]] = (
        UNSET
    )
    method: Maybe[Annotated[Text, says("how interval and p_value were computed")]] = UNSET


class Confusion(Section):
    """How often each class was answered, by true class: counts of images, of labelled pixels for a segmenter. Absent
    for detectors, and where more than 32 classes occur.
    """

    classes: Annotated[list[Text], says("the classes that occur, in the order of rows and columns")]
    float_: Annotated[list[list[Count]], says("float network: a row per true class, a column per answer")] = (
        msgspec.field(name="float")
    )
    integer: Annotated[list[list[Count]], says("the same of the integer file")]


class Disagreement(Section):
    """An image that both networks answer differently; at most 64 are listed, the worst first."""

    image: Annotated[Count, says("its number among the images measured, from 0")]
    truth: Maybe[Annotated[Text, says("its class; classification")]] = UNSET
    float_: Maybe[Annotated[Text, says("the float network's answer; classification")]] = msgspec.field(
        name="float", default=UNSET
    )
    integer: Maybe[Annotated[Text, says("the integer file's answer; classification")]] = UNSET
    agreement: Maybe[Annotated[Share, says("share of its pixels, or of both networks' boxes, that agree")]] = UNSET


class Accuracy(Section, kw_only=True):
    """On labelled images; null when there were none."""

    metric: Maybe[Annotated[Text, says("what `score` is: top-1, mIoU, mAP@0.5 or verification")]] = UNSET
    n: Annotated[Positive, says("images, or pairs for verification; the same for both")]
    chance: Maybe[
        Annotated[
            Percent,
            says("percent that the float network would score if its answers were dealt to the images at random"),
        ]
    ] = UNSET
    float_: Annotated[Answers, says("the network as it came, in torch")] = msgspec.field(name="float")
    integer: Annotated[Answers, says("the exported file, run by its real runtime")]
    agreement: Annotated[
        Share,
        says(
            "share, 0 to 1, answered alike by both, right or wrong: images (first answer), pixels, or "
            "boxes of the float network with a partner of the same class at IoU 0.5"
        ),
    ]
    difference: Maybe[Difference] = UNSET
    confusion: Maybe[Confusion] = UNSET
    disagreements: Maybe[list[Disagreement]] = UNSET
    images: Maybe[Annotated[Text, says("where the images came from, without folders")]] = UNSET
    sha256: Maybe[Annotated[Text, says("of pixels and labels")]] = UNSET


class ValueErrors(Section):
    """Distance of answers from what is true, in the output's unit."""

    mae: Annotated[Amount, says("mean absolute error")]
    rmse: Annotated[Amount, says("root mean square error")]


class RegressionOutput(Section, kw_only=True):
    """One value of the output, or a whole output where there are more than 32; the integer file against float."""

    name: Annotated[Text, says("as `[task] names` has it, else its place")]
    unit: Annotated[Text, says("as `[task] units` has it, else empty")]
    mean_difference: Annotated[Amount, says("mean absolute difference, in the output's unit")]
    p95_difference: Annotated[Amount, says("95 % of the answers differ by no more")]
    max_difference: Annotated[Amount, says("largest difference")]
    snr_db: Annotated[Decibels, says("power of the float answers over that of the difference; 120 for none")]
    low: Annotated[Float32, says("smallest answer of the float network")]
    high: Annotated[Float32, says("largest")]
    beyond: Annotated[Share, says("share of float answers more than a step beyond every answer of the file")]
    float_: Maybe[ValueErrors] = msgspec.field(name="float", default=UNSET)
    integer: Maybe[ValueErrors] = UNSET


class RegressionErrors(Section, kw_only=True):
    """Real values on evaluation images; `task = "regression"`."""

    n: Annotated[Positive, says("images")]
    outputs: list[RegressionOutput]
    images: Maybe[Annotated[Text, says("where the images came from, without folders")]] = UNSET
    sha256: Maybe[Annotated[Text, says("of pixels and values")]] = UNSET


class EmbeddingErrors(Section, kw_only=True):
    """Vectors on evaluation images, the integer file's against the float network's; `task = "embedding"`."""

    n: Annotated[Positive, says("images")]
    values: Annotated[Positive, says("values of a vector")]
    cosine_mean: Annotated[Cosine, says("cosine of both networks' vectors of an image, mean")]
    cosine_p5: Annotated[Cosine, says("95 % of the images reach it")]
    cosine_min: Annotated[Cosine, says("the smallest")]
    pairs: Maybe[Annotated[Positive, says("pairs of images that were verified")]] = UNSET
    folds: Maybe[Annotated[Positive, says("parts; the threshold of each is the best one of the others")]] = UNSET
    threshold_float: Maybe[
        Annotated[Cosine, says("cosine from which two images are the same, float, mean of the folds")]
    ] = UNSET
    threshold_integer: Maybe[Annotated[Cosine, says("the same of the integer file")]] = UNSET
    score_at_float_threshold: Maybe[
        Annotated[Percent, says("percent of pairs that the integer file decides right by the float threshold")]
    ] = UNSET
    images: Maybe[Annotated[Text, says("where the images came from, without folders")]] = UNSET
    sha256: Maybe[Annotated[Text, says("of pixels and pairs")]] = UNSET
