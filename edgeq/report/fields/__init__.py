"""report.json: every key, its type and meaning, once. Building, checking and the documentation all read these structs.

A key that may be absent is `Maybe`, and then `UNSET`. A section's docstring says what it holds, unless the key says it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET

from edgeq.report.fields.accuracy import Accuracy, EmbeddingErrors, RegressionErrors
from edgeq.report.fields.device import Device
from edgeq.report.fields.diagnosis import Diagnosis
from edgeq.report.fields.file import Artifact, Census, Exactness, FloatFile, Host, Layer, Network, RawPixels, Simulated
from edgeq.report.fields.machine import Conditions, Latency
from edgeq.report.fields.making import Finetune, Seconds, Synthesis
from edgeq.report.fields.types import Count, Maybe, Percent, Positive, Section, Share, Text, Whole, says
from edgeq.report.fields.use import Use

__all__ = ["SCHEMA", "Report"]

SCHEMA = 1
"""Grows when a key changes its meaning or goes away; new optional keys leave it as it is."""


class Baseline(Section):
    """The same network calibrated otherwise, for comparison."""

    method: Annotated[Text, says("where its calibration images came from")]
    images: Annotated[Positive, says("how many")]
    top1: Annotated[Percent, says("percent, on the same images as `accuracy`")]
    top5: Maybe[Annotated[Percent | None, says("percent")]] = UNSET
    agreement: Maybe[Annotated[Share, says("share of images given the float network's answer")]] = UNSET


class Report(Section, kw_only=True):
    """One build, as its report.json has it."""

    schema: Annotated[Whole, says("version of this table, 1")]
    edgeq: Maybe[Annotated[Text, says("version of edgeq")]] = UNSET
    model: Annotated[Text, says("the network's name")]
    network: Maybe[Network] = UNSET
    target: Annotated[Text, says("name of the target")]
    method: Annotated[Text, says("where calibration images came from")]
    method_reason: Maybe[Annotated[Text, says("why that method")]] = UNSET
    bits: Annotated[Text, says("weights first: w8a8")]
    seed: Annotated[Count, says("seed of everything random")]
    artifact: Artifact
    float_: FloatFile = msgspec.field(name="float")
    task: Maybe[Annotated[Text, says("what the outputs mean, as `[output] task` has it")]] = UNSET
    accuracy: Accuracy | None
    regression: Maybe[RegressionErrors] = UNSET
    embedding: Maybe[EmbeddingErrors] = UNSET
    exactness: Exactness | None
    census: Census | None
    latency: Latency | None
    devices: Maybe[list[Device]] = UNSET
    diagnosis: Maybe[Diagnosis] = UNSET
    synthesis: Synthesis
    raw_pixels: Maybe[RawPixels] = UNSET
    host: Maybe[Host] = UNSET
    use: Maybe[Use] = UNSET
    simulated: Maybe[Simulated] = UNSET
    finetune: Maybe[Finetune] = UNSET
    seconds: Seconds
    dead_channels: Annotated[Count, says("output channels whose weights cannot move the output by half a step")]
    equalized: Maybe[
        Annotated[Count, says("layers whose weights in the file are the checkpoint's times scales of channels")]
    ] = UNSET
    layers: list[Layer]
    baselines: list[Baseline]
    warnings: Annotated[list[Text], says("what a person should know before believing or shipping this")]
    conditions: Conditions
