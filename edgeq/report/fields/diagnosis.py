"""The section of report.json that `edgeq diagnose BUILD` adds: causes of the loss, and remedies that were simulated."""

from __future__ import annotations

from typing import Annotated

from edgeq.report.fields.types import Count, Decibels, Positive, Section, Share, Text, says

__all__ = ["Diagnosis"]


class Cause(Section):
    """A layer that makes much of the noise."""

    where: Annotated[Text, says("name of the op")]
    kind: Annotated[Text, says("what is wrong, in two or three words")]
    text: Annotated[Text, says("the same in a sentence")]
    share: Annotated[Share, says("of the noise that all ops make when each is rounded alone")]


class Remedy(Section):
    """Settings that were simulated and helped, the ones that leave least noise first."""

    why: Annotated[Text, says("what they change")]
    command: Annotated[Text, says("the build to type")]
    answers_db: Annotated[Decibels, says("signal to noise of the outputs with them")]
    same_answers: Annotated[Share | None, says("share of images with the float network's answer; null without classes")]
    bytes: Annotated[Positive, says("size of the file with them")]
    time: Annotated[Text, says("what is known of its time")]


class Diagnosis(Section):
    """What `edgeq diagnose` found, on synthetic images that calibrated nothing."""

    images: Annotated[Positive, says("images that answers were compared on")]
    sound: Annotated[bool, says("whether so little is lost that nothing was tried")]
    answers_db: Annotated[Decibels, says("signal to noise of the outputs of this build, simulated")]
    same_answers: Annotated[Share | None, says("share of images with the float network's answer; null without classes")]
    bytes: Annotated[Positive, says("size of its file, without metadata")]
    tried: Annotated[Count, says("other settings that were simulated")]
    causes: list[Cause]
    remedies: list[Remedy]
