"""The section `use` of report.json: all that an app must know to run the file and to read its answers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from edgeq.report.fields.types import Amount, Count, Float32, Number, Positive, Section, Share, Text, Whole, says

__all__ = ["GridHeads", "Use"]

Pair = Meta(min_length=2, max_length=2)


class FileTensor(Section, kw_only=True):
    """An input or output of the file: real = scale x (integer - zero point)."""

    type: Annotated[Literal["float32", "int8", "uint8", "int16"], says("of its elements")]
    shape: Annotated[list[Positive], says("as the file has it, batch 1")]
    scale: Annotated[Float32, says("of its integers; absent for float32")] | UnsetType = UNSET
    zero_point: Annotated[Whole, says("of its integers")] | UnsetType = UNSET


class GridHeads(Section, kw_only=True):
    """Raw heads of the YOLO family, as `edgeq.decode_grid.GridDecoding` has them."""

    kind: Annotated[Literal["detect", "segment", "pose", "obb"], says("what is detected")]
    strides: Annotated[list[Amount], says("pixels per cell, one per level")]
    reg_max: Annotated[Positive, says("channels per side of a box")]
    classes: Annotated[Positive, says("number of classes")]
    extra: Annotated[Count, says("channels of the third branch")]
    keypoints: Annotated[list[Positive], Pair, says("points, and values of each")] | UnsetType = UNSET
    end_to_end: Annotated[bool, says("boxes overlap no others, so no suppression follows")]
    plain: Annotated[bool, says("angles in radians, keypoints from the cell's centre, as YOLO26 has them")]
    score: Annotated[Share, says("least score of a box")]
    overlap: Annotated[Share, says("largest overlap with a better box of its class")]


class Anchors(Section):
    """Logits and deltas of square anchors, as `edgeq.decode.detect` takes them."""

    maps: Annotated[list[list[Positive]], says("height and width of each map")]
    sizes: Annotated[list[list[Amount]], says("sides of the anchors in pixels, a list per map")]
    variances: Annotated[list[Amount], Pair, says("that deltas were divided by")]
    score: Annotated[Share, says("least score of a box")]
    overlap: Annotated[Share, says("largest overlap with a better box of its class")]


class Use(Section, kw_only=True):
    """What an app needs to run the file. `edgeq use` prints programs made of it."""

    runtimes: Annotated[list[Text], says("that run the file, the target's first")]
    kernels: Annotated[Text, says("that the target names")]
    session: Annotated[dict[Text, Text], says("options of the runtime that the build's answers need on x86")]
    channels_last: Annotated[bool, says("whether maps are (1, H, W, C) in the file; else (1, C, H, W)")]
    input: FileTensor
    outputs: list[FileTensor]
    mean: Annotated[list[Number], says("of training, per channel on the 0..1 scale of pixels")]
    std: Annotated[list[Number], says("of training, per channel on the 0..1 scale of pixels")]
    resize: Annotated[Positive, says("pixels of a picture's short side before the crop")] | UnsetType = UNSET
    crop: Annotated[bool, says("whether pictures are cropped in the centre, not stretched to the input's size")]
    labels: Annotated[list[Text], says("what the classes are called; empty where nobody says")]
    labels_in_file: Annotated[bool, says("whether the file carries these labels, too")]
    names: Annotated[list[Text], says("of the values of a regressor")] | UnsetType = UNSET
    units: Annotated[list[Text], says("of these values, one each")] | UnsetType = UNSET
    heads: GridHeads | UnsetType = UNSET
    anchors: Anchors | UnsetType = UNSET
