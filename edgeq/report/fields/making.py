"""How a build was made: calibration images, fine-tuning, seconds of each stage."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET

from edgeq.report.fields.types import Amount, Count, Maybe, Number, Positive, Section, Share, Text, says

__all__ = ["Finetune", "Seconds", "Synthesis"]


class Synthesis(Section):
    """Calibration images."""

    method: Annotated[Text, says("what made them")]
    images: Annotated[Positive, says("how many")]
    seconds: Annotated[Amount, says("how long it took when it was really done")]
    sha256: Maybe[Annotated[Text, says("of pixels and labels")]] = UNSET
    classes: Maybe[
        Annotated[dict[Text, Count], says("images of each class they were made for; empty where unknown")]
    ] = UNSET
    notes: Maybe[Annotated[dict[Text, Number], says("what the method tells about its images, by name")]] = UNSET
    device: Maybe[Annotated[Text, says("cpu or cuda: where methods that optimise computed")]] = UNSET


class Agreement(Section):
    """The trained student against the exact reference of the integers it was frozen to."""

    images: Annotated[Positive, says("compared")]
    equal_argmax: Annotated[Share, says("share of images given the same answer")]
    equal: Annotated[Share, says("share of equal output values")]
    largest_step: Annotated[Count, says("largest difference, in integer steps")]


class Curves(Section):
    """Losses over time, thinned."""

    student: Annotated[list[Number], says("what the student lowers")]
    generator: Annotated[list[Number], says("what the generator lowers; empty without one")]
    held_out: Annotated[list[Number], says("gap to the float outputs on held-out synthetic images")]


class Finetune(Section, kw_only=True):
    """How the quantized network was trained, where it was."""

    method: Annotated[Text, says("what trained it")]
    images: Annotated[Text, says("what made the images it was trained on, beside a generator it plays against")]
    processes: Maybe[Annotated[Positive, says("processes that trained it; written by earlier versions")]] = UNSET
    device: Maybe[Annotated[Text, says("what they trained on: cpu or cuda")]] = UNSET
    precision: Maybe[Annotated[Text, says("float32, or mixed: the float network and the generator in bfloat16")]] = (
        UNSET
    )
    steps: Annotated[Amount, says("of the optimiser")]
    seconds: Annotated[Amount, says("how long training took, since it was last resumed")]
    resumed_at: Annotated[Amount, says("the step it was resumed at; 0 for never")]
    gap_before: Annotated[Amount, says("mean absolute difference to the float outputs on held-out synthetic images")]
    gap_after: Annotated[Amount, says("the same after the last step")]
    peak_mib: Annotated[Amount, says("peak memory of the first process")]
    agreement: Agreement
    curves: Curves


class Seconds(Section, kw_only=True):
    """Of each stage when it was really done, even where this build found it cached; null when skipped."""

    capture: Annotated[Amount | None, says("module to graph, folded and fused")]
    synthesize: Annotated[Amount | None, says("images made")]
    calibrate: Annotated[Amount | None, says("ranges found, integers frozen")]
    finetune: Maybe[Annotated[Amount | None, says("the quantized network trained")]] = UNSET
    write: Annotated[Amount | None, says("files written")]
    verify: Annotated[Amount | None, says("exactness and census")]
    measure: Annotated[Amount | None, says("accuracy and latency")]
