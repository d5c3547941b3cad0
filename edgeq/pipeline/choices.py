"""What settings, target and network decide together: bits, types, the meaning of the input, where images come from.

What cannot be is refused here, before any work.
"""

from __future__ import annotations

import dataclasses

from edgeq.config.build import BuildConfig
from edgeq.config.formats import FORMATS
from edgeq.config.targets import Target
from edgeq.config.tasks import UNSCORED
from edgeq.data.evaluation import check_images
from edgeq.errors import ConflictError, TargetLimitError
from edgeq.finetune.budget import batch_for
from edgeq.finetune.settings import METHODS
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm
from edgeq.measure.conditions import this_machine
from edgeq.model.spec import ModelSpec, is_series
from edgeq.quant.input_transform import InputTransform, choose_raw_pixels, normalised_input
from edgeq.quant.scheme import LayerBits, Scheme
from edgeq.synth import synthesizer_of
from edgeq.synth.base import JOINED

__all__ = [
    "IMAGES",
    "check_method",
    "choose_input_transform",
    "choose_method",
    "choose_tuning",
    "file_types",
    "scheme_of",
    "types_of",
    "with_images",
]

IMAGES = 160
"""Fewest calibration images of a build that fine-tunes: a network trained on 32 learns those. A fifth only judges."""

ENDS = {"int8": 8, "uint8": 8, "int16": 16}
"""Bits of inputs and outputs by type; in float they have those of the ops there."""


def scheme_of(config: BuildConfig, target: Target) -> Scheme:
    """The requested bits, limited to what the target's kernels accept. Raises before any work what no file could do."""
    if (config.weight_storage or "int8") not in FORMATS.get(target.format).weight_types:
        raise ConflictError(
            f"--weight-storage {config.weight_storage} for {target.name}",
            why=f"{target.runtime} runs no convolution with such weights",
            hint="leave it out, or build for a tflite target",
        )
    widest = target.bits_of_weights(vnni=this_machine().vnni)
    scheme = Scheme.of(config.bits, all_layers=config.all_layers, widest=widest, layers=config.layer_bits)
    if scheme.wide:
        _check_wide(config, target, mixed=scheme.mixed)
    elif config.io == "int16":
        raise ConflictError(f"--io int16 with {config.bits}", why="its activations have 8 bits", hint="--bits w8a16")
    if not scheme.mixed:
        return scheme
    ends = ENDS.get(types_of(config, target, scheme)[0] or "")
    return dataclasses.replace(scheme, ends=(8 if _wants_raw_pixels(config, target) else ends, ends))


def _check_wide(config: BuildConfig, target: Target, *, mixed: bool) -> None:
    """Refuse what 16-bit activations do not go with."""
    if not FORMATS.get(target.format).wide:
        raise TargetLimitError(
            f"16-bit activations for {target.name}",
            why=f"{target.runtime} has no 16-bit integer convolution and would compute all of it in float",
            hint="build for a tflite target, or use a8",
        )
    if _wants_raw_pixels(config, target) and (not mixed or config.io == "int16"):
        raise ConflictError(
            f"raw pixels with {config.io if mixed else config.bits}",
            why="pixels have 8 bits, and kernels read one type",
            hint="--raw-pixels no, or a8",
        )
    if mixed:
        return
    if config.io in ("int8", "uint8"):
        raise ConflictError(
            f"--io {config.io} with {config.bits}",
            why="8 bits at the ends would waste those between",
            hint="int16 (the default) or float32",
        )
    if config.weight_storage == "int4":
        raise ConflictError(
            f"--weight-storage int4 with {config.bits}", why="TFLite's 16-bit kernels take int8 weights"
        )


def _wants_raw_pixels(config: BuildConfig, target: Target) -> bool:
    return config.raw_pixels != "no" if config.raw_pixels else target.raw_pixels


def types_of(config: BuildConfig, target: Target, scheme: Scheme) -> tuple[str | None, str]:
    """The type of inputs and outputs, None for that of the ops there, and the one weights of four bits or fewer are
    stored in."""
    default = "uint8" if config.raw_pixels in ("yes", "free") else target.io
    io, weights = config.io or default, config.weight_storage or target.narrow_weights
    if scheme.mixed:
        native = not config.io and io == "int8" and not _wants_raw_pixels(config, target)
        return (None if native else io), weights
    if scheme.activation_bits == 16:
        return ("float32" if io == "float32" else "int16"), "int8"
    return io, weights


def file_types(
    target: Target, io: str | None, weight_storage: str | None, kinds: frozenset[str]
) -> tuple[str | None, str]:
    """What `types_of` returns, for integers whose activations have the types `kinds`.

    `io` and `weight_storage` are settings, None for the target's. Raises `ConfigError`, `UnsupportedError`.
    """
    bits = "w8a16" if kinds == {"int16"} else "w8a8"
    if "int16" in kinds and not FORMATS.get(target.format).wide:
        raise TargetLimitError(f"16-bit activations for {target.name}", hint="write a .tflite")
    config = BuildConfig(bits=bits, io=io, weight_storage=weight_storage, targets=(target.name,))
    mixed = dataclasses.replace(Scheme.of(bits), layers=(LayerBits("*", 8, 16),)) if len(kinds) > 1 else Scheme.of(bits)
    return types_of(config, target, mixed)


def choose_input_transform(
    config: BuildConfig, target: Target, scheme: Scheme, graph: Graph, spec: ModelSpec, tuning: str
) -> InputTransform:
    """What the file's input will stand for. Raises `UnsupportedError` where raw pixels are asked for and cost an op
    that is not wanted."""
    if not _wants_raw_pixels(config, target):
        return normalised_input(spec)
    io, _ = types_of(config, target, scheme)
    return choose_raw_pixels(graph, spec, io or "int8", tuned=bool(tuning), free=config.raw_pixels == "free")


def choose_tuning(config: BuildConfig) -> tuple[BuildConfig, str]:
    """The settings with images and fine-tuning told apart, and the method that fine-tunes; "" for none.

    ``--method zaq`` says both at once: images that suit the network for the ranges, then ZAQ. Raises `ConfigError` for
    two fine-tunings at once.
    """
    tuning = "" if config.finetune == "none" else config.finetune
    if config.method in METHODS:
        if config.finetune not in ("none", config.method):
            raise ConflictError(
                f"--method {config.method} --finetune {config.finetune}",
                why="both say how to fine-tune",
                hint="name images with --method, such as gznq",
            )
        tuning, config = config.method, dataclasses.replace(config, method="auto")
    return config, tuning


def with_images(config: BuildConfig, tuning: str, graph: Graph) -> BuildConfig:
    """`config` with enough calibration images for `tuning` to learn from and to be judged by: `IMAGES`, or five batches
    of a network so large that its batches are small (and its images hold that many more places)."""
    if not tuning:
        return config
    return dataclasses.replace(config, images=max(config.images, min(IMAGES, 5 * batch_for(graph))))


def check_method(method: str) -> None:
    """Raise `ConfigError` for a method or images nobody has, before minutes are spent on the network."""
    if method.startswith("images:"):
        check_images(method.removeprefix("images:"))
        return
    if method == "auto":
        return
    if method in METHODS:
        raise ConflictError(
            f"--method {method}",
            why="it trains the integer network on images and makes none to keep",
            hint=f"edgeq build --method {method}; for images, --method gznq or zs-cgan",
        )
    if trained := [part for part in method.split(JOINED) if part in METHODS]:
        raise ConflictError(
            f"--method {method}",
            why=f"{trained[0]} trains the integer network on images and makes none",
            hint=f"join what makes images, and edgeq build --finetune {trained[0]}",
        )
    synthesizer_of(method)


def choose_method(method: str, raw: Graph, task: str = "classification") -> tuple[str, str]:
    """The synthesizer to use, and why: what was asked for, or for ``auto`` what suits the network and its `task`."""
    if method != "auto":
        return method, "as asked"
    if is_series(raw.input_shapes[raw.inputs[0]][1:]):
        return "series", "auto: the input is one row high, so nothing that pictures have is assumed of it"
    norms = sum(1 for _ in raw.of_kind(BatchNorm))
    if norms:
        return "gznq", f"auto: the network has {norms} batch norms whose statistics images can match"
    if task in UNSCORED:
        return "gzsq", "auto: no batch norm (absent or folded), so images match statistics estimated from the weights"
    return "inversion", "auto: no batch norm (absent or folded) to match, so classes are drawn out of random shapes"
