"""The file formats that edgeq writes: one row of facts for each. `edgeq.formats` has a folder with the code of each.

Another package adds a format through an entry point of the group ``edgeq.formats`` that names its `FormatFacts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq.registry import Registry

__all__ = ["FORMATS", "REFERENCE", "FormatFacts", "Rounding", "by_suffix", "model_names", "suffixes"]

Rounding = Literal["tflite", "onnxruntime"]
"""Whose arithmetic a file is held to: that of the exact reference, which is TFLite's, or onnxruntime's own."""

REFERENCE: Rounding = "tflite"
"""The arithmetic of the exact reference."""


@dataclass(frozen=True)
class FormatFacts:
    """What the rest of edgeq may ask of a format without loading its code.

    `name` is what targets call it, `title` what people do. `implementation` is its `edgeq.formats.base.Format`, as
    ``module:class``. `runtimes` run its files, the default one first; `kernels`, `activations` and `weight_types` are
    what a target may name, the default first (weight types: what weights of four bits or fewer may be stored in).
    `target` is the one to write for when nobody names one. `session` are options of the runtime for a file whose
    activations may be int8.

    `exact`: the runtime computes every integer of the reference; otherwise values may be one step off. `wide`: the
    runtime has kernels for 16-bit activations. `moves_layouts`: the runtime adds transposes of its own.
    `channels_last`: maps are ``(1, H, W, C)`` in its files.
    """

    name: str
    title: str
    suffix: str
    implementation: str
    runtimes: tuple[str, ...]
    kernels: tuple[str, ...]
    activations: tuple[str, ...]
    weight_types: tuple[str, ...]
    target: str
    session: tuple[tuple[str, str], ...] = ()
    exact: bool = False
    wide: bool = False
    moves_layouts: bool = False
    channels_last: bool = False


FORMATS: Registry[FormatFacts] = Registry("format")

for _facts in (
    FormatFacts(
        "tflite",
        "TFLite",
        ".tflite",
        "edgeq.formats.tflite.format:TFLite",
        runtimes=("litert", "tflite-runtime"),
        kernels=("xnnpack", "builtin"),
        activations=("int8",),
        weight_types=("int8", "int4"),
        target="tflite-arm",
        exact=True,
        wide=True,
        channels_last=True,
    ),
    FormatFacts(
        "onnx",
        "ONNX",
        ".onnx",
        "edgeq.formats.onnx.format:ONNX",
        runtimes=("onnxruntime",),
        kernels=("mlas",),
        activations=("int8", "uint8"),
        weight_types=("int8",),  # onnxruntime fuses no convolution with weights of four bits
        target="onnx-arm",
        session=(("session.qdqisint8allowed", "1"),),  # it fuses signed activations by itself on Arm only
        moves_layouts=True,
    ),
):
    FORMATS.register(_facts.name)(_facts)


def suffixes() -> list[str]:
    """What the names of model files end in."""
    return [facts.suffix for facts in FORMATS.entries()]


def by_suffix(path: Path) -> FormatFacts | None:
    """The format of a file by the end of its name; None for another file."""
    return next((facts for facts in FORMATS.entries() if facts.suffix == path.suffix), None)


def model_names() -> str:
    """The ends of model files in words: ".tflite or .onnx"."""
    return " or ".join(suffixes())
