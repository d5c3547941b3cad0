"""report.json: every key, its type and meaning, once. Building, checking and the documentation all read these structs.

A key that may be absent is `UNSET`. What a section holds is its docstring, unless the field says it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from edgeq.report.devicefields import Device, Times
from edgeq.report.diagnosisfields import Diagnosis
from edgeq.report.entries import (
    Amount,
    AtLeastOne,
    Celsius,
    Cosine,
    Count,
    Decibels,
    Float32,
    Number,
    Percent,
    Points,
    Positive,
    Section,
    Share,
    Text,
    Time,
    Whole,
    says,
)
from edgeq.report.usefields import Use

__all__ = ["SCHEMA", "Report"]

SCHEMA = 1
"""Grows when a key changes its meaning or goes away; new optional keys leave it as it is."""


class Machine(Section):
    """The machine that ran something."""

    machine: Annotated[Text, says("the machine in one line")]
    cpu: Annotated[Text, says("processor, or board and processor")]
    architecture: Annotated[Text, says("such as x86_64 or aarch64")]
    cores: Annotated[Positive, says("cores this process may use")]
    flags: Annotated[list[Text], says("instruction sets that kernels choose between, those of them present")]
    vnni: Annotated[bool, says("whether x86 sums 8-bit products without saturating on the way")]
    governor: Annotated[Text | None, says("clock governor; null where not readable")]
    platform: Annotated[Text, says("operating system and version")]
    python: Annotated[Text, says("version of Python")]
    virtual: Annotated[bool, says("whether this is a virtual machine")]
    container: Annotated[Text | None, says("kind of container, null for none seen")]
    emulated: Annotated[bool, says("another kind of processor pretended to be this one: its times mean nothing")]


class Network(Section):
    """The network in numbers."""

    input: Annotated[list[AtLeastOne], says("shape of one input: channels, height, width")]
    parameters: Annotated[Count, says("weights and biases, batch norm folded")]
    macs: Annotated[Count, says("multiply-accumulates of one inference")]
    nodes: Annotated[Count, says("ops after folding and fusing")]


class Artifact(Section):
    """The integer file."""

    path: Annotated[Text, says("file name, in the folder of this report")]
    bytes: Annotated[Positive, says("size")]
    sha256: Annotated[Text, says("of the file")]


class FloatFile(Section):
    """The same network, float, written by the same writer."""

    bytes: Annotated[Positive, says("size")]


class Answers(Section):
    """What one network scored."""

    score: Annotated[Percent, says("the task's figure in percent, `metric` says which")]
    top1: Annotated[Percent, says("percent of images whose class was the first answer; classification")] | UnsetType = (
        UNSET
    )
    top5: (
        Annotated[Percent | None, says("percent among the first five; null with fewer than 6 classes; classification")]
        | UnsetType
    ) = UNSET
    per_class: Annotated[dict[Text, Percent], says("the same figure of each class; dense tasks")] | UnsetType = UNSET
    top1_interval: Annotated[list[Percent], says("95 % interval of top1 (Wilson), low and high")] | UnsetType = UNSET


class Difference(Section):
    """Integer minus float; for classification judged on the images whose answer became right or wrong."""

    points: Annotated[Points, says("difference of the score in percentage points; negative is a loss")]
    low: Annotated[Points, says("lower end of the interval of `points`")] | UnsetType = UNSET
    high: Annotated[Points, says("upper end")] | UnsetType = UNSET
    level: Annotated[Share, says("confidence level of the interval, 0.95")] | UnsetType = UNSET
    gained: Annotated[Count, says("images wrong in float and right in integers")] | UnsetType = UNSET
    lost: Annotated[Count, says("images right in float and wrong in integers")] | UnsetType = UNSET
    p_value: (
        Annotated[Share, says("chance of so uneven a split of gained and lost if neither were better")] | UnsetType
    ) = UNSET
    method: Annotated[Text, says("how interval and p_value were computed")] | UnsetType = UNSET


class Accuracy(Section, kw_only=True):
    """On labelled images; null when there were none."""

    metric: Annotated[Text, says("what `score` is: top-1, mIoU, mAP@0.5 or verification")] | UnsetType = UNSET
    n: Annotated[Positive, says("images, or pairs for verification; the same for both")]
    chance: (
        Annotated[
            Percent,
            says("percent that the float network would score if its answers were dealt to the images at random"),
        ]
        | UnsetType
    ) = UNSET
    float_: Annotated[Answers, says("the network as it came, in torch")] = msgspec.field(name="float")
    integer: Annotated[Answers, says("the exported file, run by its real runtime")]
    agreement: Annotated[
        Share,
        says(
            "share, 0 to 1, answered alike by both, right or wrong: images (first answer), pixels, or "
            "boxes of the float network with a partner of the same class at IoU 0.5"
        ),
    ]
    difference: Difference | UnsetType = UNSET
    images: Annotated[Text, says("where the images came from, without folders")] | UnsetType = UNSET
    sha256: Annotated[Text, says("of pixels and labels")] | UnsetType = UNSET


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
    float_: ValueErrors | UnsetType = msgspec.field(name="float", default=UNSET)
    integer: ValueErrors | UnsetType = UNSET


class RegressionErrors(Section, kw_only=True):
    """Real values on evaluation images; `task = "regression"`."""

    n: Annotated[Positive, says("images")]
    outputs: list[RegressionOutput]
    images: Annotated[Text, says("where the images came from, without folders")] | UnsetType = UNSET
    sha256: Annotated[Text, says("of pixels and values")] | UnsetType = UNSET


class EmbeddingErrors(Section, kw_only=True):
    """Vectors on evaluation images, the integer file's against the float network's; `task = "embedding"`."""

    n: Annotated[Positive, says("images")]
    values: Annotated[Positive, says("values of a vector")]
    cosine_mean: Annotated[Cosine, says("cosine of both networks' vectors of an image, mean")]
    cosine_p5: Annotated[Cosine, says("95 % of the images reach it")]
    cosine_min: Annotated[Cosine, says("the smallest")]
    pairs: Annotated[Positive, says("pairs of images that were verified")] | UnsetType = UNSET
    folds: Annotated[Positive, says("parts; the threshold of each is the best one of the others")] | UnsetType = UNSET
    threshold_float: Annotated[Cosine, says("cosine from which two images are the same, float, mean of the folds")] | (
        UnsetType
    ) = UNSET
    threshold_integer: Annotated[Cosine, says("the same of the integer file")] | UnsetType = UNSET
    score_at_float_threshold: (
        Annotated[Percent, says("percent of pairs that the integer file decides right by the float threshold")]
        | UnsetType
    ) = UNSET
    images: Annotated[Text, says("where the images came from, without folders")] | UnsetType = UNSET
    sha256: Annotated[Text, says("of pixels and pairs")] | UnsetType = UNSET


class Exactness(Section):
    """Integers of the runtime against a reference, over calibration images, every op's output."""

    reference: Annotated[Text, says("what the integers were compared with")]
    values: Annotated[Count, says("values compared")]
    equal: Annotated[Count, says("of them equal")]
    max_step: Annotated[Count, says("largest difference, in integer steps")]
    images: Annotated[Positive, says("inputs the values come from")] | UnsetType = UNSET
    first_difference: Annotated[Text | None, says("the earliest op that differs, and where")] | UnsetType = UNSET


class Census(Section, kw_only=True):
    """What the runtime made of the file."""

    ops: Annotated[Count, says("ops in all")]
    kinds: Annotated[dict[Text, Count], says("how many of each kind, by the runtime's own names")] | UnsetType = UNSET
    float_ops: Annotated[Count, says("ops that compute in float")]
    transposes: Annotated[Count, says("ops that only change the layout")]
    quantize: Annotated[Count, says("float to integer inside the network")]
    dequantize: Annotated[Count, says("integer to float inside the network")]
    requantize: Annotated[Count, says("integers of 8 bits to 16 bits or back")] | UnsetType = UNSET
    spatial_pads: Annotated[Count, says("pads that a convolution or pooling could carry")] | UnsetType = UNSET
    float_convolutions: Annotated[Count, says("convolutions in float")] | UnsetType = UNSET
    float_matmuls: Annotated[Count, says("matrix products in float")] | UnsetType = UNSET


class Moment(Section):
    """A machine right before or after the timed part."""

    load: Annotated[Amount | None, says("load average of the last minute")]
    frequency_mhz: Annotated[Amount | None, says("mean clock of all cores")]
    temperature_c: Annotated[Celsius | None, says("warmest thermal zone, degrees Celsius")]


class LatencyConditions(Machine, kw_only=True):
    """What the timings depend on."""

    runtime: Annotated[Text, says("package and version of the runtime")]
    kernels: Annotated[Text, says("kernels asked for, such as xnnpack or mlas")]
    before: Annotated[Moment, says("the machine right before the timed part")]
    after: Annotated[Moment, says("the machine right after the timed part")]
    others: Annotated[Amount | None, says("cores kept busy by other programs meanwhile, on average")]
    stolen: Annotated[Amount | None, says("share of the processor time that a hypervisor took")] | UnsetType = UNSET
    processor_share: Annotated[Amount | None, says("share of the time this process was on a processor")]


class Samples(Section):
    """Every timing, milliseconds per inference; the two lists are pairs."""

    float_ms: Annotated[list[Amount], says("float file")]
    integer_ms: Annotated[list[Amount], says("integer file")]


class Latency(Times, kw_only=True):
    """Float and integer file, timed in turns; null when not measured."""

    p90_ms: Annotated[Time, says("integer file, 90th percentile")]
    threads: Annotated[Positive, says("threads of the runtime")]
    valid: Annotated[bool, says("whether these timings may be believed")]
    conditions: LatencyConditions
    samples: Samples | UnsetType = UNSET


class Synthesis(Section):
    """Calibration images."""

    method: Annotated[Text, says("what made them")]
    images: Annotated[Positive, says("how many")]
    seconds: Annotated[Amount, says("how long it took when it was really done")]
    sha256: Annotated[Text, says("of pixels and labels")] | UnsetType = UNSET
    notes: Annotated[dict[Text, Number], says("what the method tells about its images, by name")] | UnsetType = UNSET
    device: Annotated[Text, says("cpu or cuda: where methods that optimise computed")] | UnsetType = UNSET


class RawPixels(Section):
    """Present where the file takes pixels and no normalisation is left to the app."""

    form: Annotated[Text, says("grid, weights or op: where mean and std went")]
    normalisation: Annotated[Text, says("the same in words")]
    why: Annotated[Text, says("why there")]
    type: Annotated[Text, says("of the input: uint8, int8 or float32")]
    input: Annotated[Text, says("what an app puts there")]
    mean: Annotated[
        list[Number],
        says("per channel on the 0..1 scale: with `std`, what the input's scale and zero point make of a pixel"),
    ]
    std: Annotated[list[Number], says("per channel on the 0..1 scale")]
    border: Annotated[Amount, says("how far the border of padding layers is from the mean, in pixels, at most a half")]
    macs: Annotated[Count, says("multiply-accumulates it costs")]


class Host(Section):
    """Present where the end of the network was cut off, because the host computes it in float behind the file."""

    where: Annotated[Text, says("module that was cut off")]
    work: Annotated[Text, says("what is left to the host")]
    outputs: Annotated[list[Text], says("module paths of the file's outputs, in order")]
    snippet: (
        Annotated[Text, says("a Python program that does it; written by earlier versions, `use` replaces it")]
        | UnsetType
    ) = UNSET


class Simulated(Section):
    """Present where activations have fewer than 8 bits, which no runtime executes: `accuracy.integer` is then the
    exact reference's, and the file stores the same integers without that confinement.
    """

    values: Annotated[Count, says("values confined to fewer bits than they are stored in")]
    images: Annotated[Positive, says("evaluation images answered, evenly spaced")] | UnsetType = UNSET
    file_score: Annotated[Percent, says("the file's own score on them, in percent")] | UnsetType = UNSET


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
    processes: Annotated[Positive, says("processes that trained it; written by earlier versions")] | UnsetType = UNSET
    device: Annotated[Text, says("what they trained on: cpu or cuda")] | UnsetType = UNSET
    precision: (
        Annotated[Text, says("float32, or mixed: the float network and the generator in bfloat16")] | UnsetType
    ) = UNSET
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
    finetune: Annotated[Amount | None, says("the quantized network trained")] | UnsetType = UNSET
    write: Annotated[Amount | None, says("files written")]
    verify: Annotated[Amount | None, says("exactness and census")]
    measure: Annotated[Amount | None, says("accuracy and latency")]


class Layer(Section):
    """Float graph against integer reference, one row per op in order, errors of earlier layers included."""

    name: Annotated[Text, says("module path")]
    op: Annotated[Text, says("kind of op")]
    sqnr_db: Annotated[Decibels, says("signal to quantization-noise ratio in decibels; 120 for no error")]
    saturated: Annotated[Share, says("share of values at the ends of the integer range")] | UnsetType = UNSET
    reads: Annotated[list[Text], says("ops it reads, by `name`; not the network's inputs")] | UnsetType = UNSET
    low: Annotated[Float32, says("smallest value of its output in the float network")] | UnsetType = UNSET
    high: Annotated[Float32, says("largest")] | UnsetType = UNSET
    weight_bits: Annotated[Positive, says("of the layer's weights")] | UnsetType = UNSET
    weight_storage: Annotated[Text, says("the type they have in the file")] | UnsetType = UNSET
    activation_bits: Annotated[Positive, says("of the op's output")] | UnsetType = UNSET
    dead_channels: Annotated[Count, says("of this op")] | UnsetType = UNSET
    equal: Annotated[Share, says("share of values equal to the exactness reference")] | UnsetType = UNSET
    max_step: Annotated[Count, says("largest difference to it, in integer steps")] | UnsetType = UNSET


class Baseline(Section):
    """The same network calibrated otherwise, for comparison."""

    method: Annotated[Text, says("where its calibration images came from")]
    images: Annotated[Positive, says("how many")]
    top1: Annotated[Percent, says("percent, on the same images as `accuracy`")]
    top5: Annotated[Percent | None, says("percent")] | UnsetType = UNSET
    agreement: Annotated[Share, says("share of images given the float network's answer")] | UnsetType = UNSET


class Conditions(Machine):
    """The machine and packages everything above was made and measured with."""

    runtime: Annotated[Text, says("package and version that ran the file")] | UnsetType = UNSET
    kernels: Annotated[Text, says("kernels asked for")] | UnsetType = UNSET
    packages: Annotated[dict[Text, Text], says("versions of the packages that matter")] | UnsetType = UNSET


class Report(Section, kw_only=True):
    """One build, as its report.json has it."""

    schema: Annotated[Whole, says("version of this table, 1")]
    edgeq: Annotated[Text, says("version of edgeq")] | UnsetType = UNSET
    model: Annotated[Text, says("the network's name")]
    network: Network | UnsetType = UNSET
    target: Annotated[Text, says("name of the target")]
    method: Annotated[Text, says("where calibration images came from")]
    method_reason: Annotated[Text, says("why that method")] | UnsetType = UNSET
    bits: Annotated[Text, says("weights first: w8a8")]
    seed: Annotated[Count, says("seed of everything random")]
    artifact: Artifact
    float_: FloatFile = msgspec.field(name="float")
    task: Annotated[Text, says("what the outputs mean, as `[output] task` has it")] | UnsetType = UNSET
    accuracy: Accuracy | None
    regression: RegressionErrors | UnsetType = UNSET
    embedding: EmbeddingErrors | UnsetType = UNSET
    exactness: Exactness | None
    census: Census | None
    latency: Latency | None
    devices: list[Device] | UnsetType = UNSET
    diagnosis: Diagnosis | UnsetType = UNSET
    synthesis: Synthesis
    raw_pixels: RawPixels | UnsetType = UNSET
    host: Host | UnsetType = UNSET
    use: Use | UnsetType = UNSET
    simulated: Simulated | UnsetType = UNSET
    finetune: Finetune | UnsetType = UNSET
    seconds: Seconds
    dead_channels: Annotated[Count, says("output channels whose weights cannot move the output by half a step")]
    equalized: (
        Annotated[Count, says("layers whose weights in the file are the checkpoint's times scales of channels")]
        | UnsetType
    ) = UNSET
    layers: list[Layer]
    baselines: list[Baseline]
    warnings: Annotated[list[Text], says("what a person should know before believing or shipping this")]
    conditions: Conditions
