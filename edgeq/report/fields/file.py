"""The files of a build, and what is in the integer one."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET

from edgeq.report.fields.types import (
    Amount,
    AtLeastOne,
    Count,
    Decibels,
    Float32,
    Maybe,
    Number,
    Percent,
    Positive,
    Section,
    Share,
    Text,
    says,
)

__all__ = ["Artifact", "Census", "Exactness", "FloatFile", "Host", "Layer", "Network", "RawPixels", "Simulated"]


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


class Exactness(Section):
    """Integers of the runtime against a reference, over calibration images, every op's output."""

    reference: Annotated[Text, says("what the integers were compared with")]
    values: Annotated[Count, says("values compared")]
    equal: Annotated[Count, says("of them equal")]
    max_step: Annotated[Count, says("largest difference, in integer steps")]
    images: Maybe[Annotated[Positive, says("inputs the values come from")]] = UNSET
    first_difference: Maybe[Annotated[Text | None, says("the earliest op that differs, and where")]] = UNSET


class Census(Section, kw_only=True):
    """What the runtime made of the file."""

    ops: Annotated[Count, says("ops in all")]
    kinds: Maybe[Annotated[dict[Text, Count], says("how many of each kind, by the runtime's own names")]] = UNSET
    float_ops: Annotated[Count, says("ops that compute in float")]
    transposes: Annotated[Count, says("ops that only change the layout")]
    quantize: Annotated[Count, says("float to integer inside the network")]
    dequantize: Annotated[Count, says("integer to float inside the network")]
    requantize: Maybe[Annotated[Count, says("integers of 8 bits to 16 bits or back")]] = UNSET
    spatial_pads: Maybe[Annotated[Count, says("pads that a convolution or pooling could carry")]] = UNSET
    float_convolutions: Maybe[Annotated[Count, says("convolutions in float")]] = UNSET
    float_matmuls: Maybe[Annotated[Count, says("matrix products in float")]] = UNSET


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
    snippet: Maybe[
        Annotated[Text, says("a Python program that does it; written by earlier versions, `use` replaces it")]
    ] = UNSET


class Simulated(Section):
    """Present where activations have fewer than 8 bits, which no runtime executes: `accuracy.integer` is then the
    exact reference's, and the file stores the same integers without that confinement.
    """

    values: Annotated[Count, says("values confined to fewer bits than they are stored in")]
    images: Maybe[Annotated[Positive, says("evaluation images answered, evenly spaced")]] = UNSET
    file_score: Maybe[Annotated[Percent, says("the file's own score on them, in percent")]] = UNSET


class Layer(Section):
    """Float graph against integer reference, one row per op in order, errors of earlier layers included."""

    name: Annotated[Text, says("module path")]
    op: Annotated[Text, says("kind of op")]
    sqnr_db: Annotated[Decibels, says("signal to quantization-noise ratio in decibels; 120 for no error")]
    saturated: Maybe[Annotated[Share, says("share of values at the ends of the integer range")]] = UNSET
    tensors: Maybe[Annotated[list[Text], says("the tensors it writes in the file, by the names that Netron shows")]] = (
        UNSET
    )
    bytes: Maybe[Annotated[Count, says("its weights, biases and other constants in the file")]] = UNSET
    reads: Maybe[Annotated[list[Text], says("ops it reads, by `name`; not the network's inputs")]] = UNSET
    low: Maybe[Annotated[Float32, says("smallest value of its output in the float network")]] = UNSET
    high: Maybe[Annotated[Float32, says("largest")]] = UNSET
    weight_bits: Maybe[Annotated[Positive, says("of the layer's weights")]] = UNSET
    weight_storage: Maybe[Annotated[Text, says("the type they have in the file")]] = UNSET
    activation_bits: Maybe[Annotated[Positive, says("of the op's output")]] = UNSET
    dead_channels: Maybe[Annotated[Count, says("of this op")]] = UNSET
    equal: Maybe[Annotated[Share, says("share of values equal to the exactness reference")]] = UNSET
    max_step: Maybe[Annotated[Count, says("largest difference to it, in integer steps")]] = UNSET
