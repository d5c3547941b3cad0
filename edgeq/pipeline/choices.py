"""What settings and target decide together: bits, types and the meaning of the input. Refused here: what cannot be."""

from __future__ import annotations

import dataclasses

from edgeq.config.build import BuildConfig
from edgeq.config.targets import WEIGHT_TYPES, Target
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.measure.conditions import this_machine
from edgeq.model.spec import ModelSpec
from edgeq.quant.bits import Scheme
from edgeq.quant.input_transform import Intake, normalised, raw_pixels

__all__ = ["intake_of", "scheme_of", "types_of"]

ENDS = {"int8": 8, "uint8": 8, "int16": 16}
"""Bits of inputs and outputs by type; in float they have those of the ops there."""


def scheme_of(config: BuildConfig, target: Target) -> Scheme:
    """Bits as asked, as far as the target's kernels take them. Refused before any work: what no file could do."""
    if (config.weight_storage or "int8") not in WEIGHT_TYPES[target.format]:
        raise ConfigError(
            f"--weight-storage {config.weight_storage} for {target.name}",
            why=f"{target.runtime} runs no convolution with such weights",
            hint="leave it out, or build for a tflite target",
        )
    widest = target.bits_of_weights(vnni=this_machine().vnni)
    scheme = Scheme.of(config.bits, all_layers=config.all_layers, widest=widest, layers=config.layer_bits)
    if scheme.wide:
        _check_wide(config, target, mixed=scheme.mixed)
    elif config.io == "int16":
        raise ConfigError(f"--io int16 with {config.bits}", why="its activations have 8 bits", hint="--bits w8a16")
    if not scheme.mixed:
        return scheme
    ends = ENDS.get(types_of(config, target, scheme)[0] or "")
    return dataclasses.replace(scheme, ends=(8 if _asked_raw(config, target) else ends, ends))


def _check_wide(config: BuildConfig, target: Target, *, mixed: bool) -> None:
    """Refuse what 16-bit activations do not go with."""
    if target.format != "tflite":
        raise UnsupportedError(
            f"16-bit activations for {target.name}",
            why=f"{target.runtime} has no 16-bit integer convolution and would compute all of it in float",
            hint="build for a tflite target, or use a8",
        )
    if _asked_raw(config, target) and (not mixed or config.io == "int16"):
        raise ConfigError(f"raw pixels with {config.io if mixed else config.bits}",
                          why="pixels have 8 bits, and kernels read one type",
                          hint="--raw-pixels no, or a8")  # fmt: skip
    if mixed:
        return
    if config.io in ("int8", "uint8"):
        raise ConfigError(f"--io {config.io} with {config.bits}", why="8 bits at the ends would waste those between",
                          hint="int16 (the default) or float32")  # fmt: skip
    if config.weight_storage == "int4":
        raise ConfigError(f"--weight-storage int4 with {config.bits}", why="TFLite's 16-bit kernels take int8 weights")


def _asked_raw(config: BuildConfig, target: Target) -> bool:
    return config.raw_pixels != "no" if config.raw_pixels else target.raw_pixels


def types_of(config: BuildConfig, target: Target, scheme: Scheme) -> tuple[str | None, str]:
    """The type of inputs and outputs, None for that of the ops there, and the one weights of four bits or fewer are
    stored in."""
    default = "uint8" if config.raw_pixels in ("yes", "free") else target.io
    io, weights = config.io or default, config.weight_storage or target.narrow_weights
    if scheme.mixed:
        native = not config.io and io == "int8" and not _asked_raw(config, target)
        return (None if native else io), weights
    if scheme.activation_bits == 16:
        return ("float32" if io == "float32" else "int16"), "int8"
    return io, weights


def intake_of(
    config: BuildConfig, target: Target, scheme: Scheme, graph: Graph, spec: ModelSpec, tuning: str
) -> Intake:
    """What the file's input will stand for. Raises `UnsupportedError` where raw pixels are asked for and cost an op
    that is not wanted."""
    if not _asked_raw(config, target):
        return normalised(spec)
    io, _ = types_of(config, target, scheme)
    return raw_pixels(graph, spec, io or "int8", tuned=bool(tuning), free=config.raw_pixels == "free")
