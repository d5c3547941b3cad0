"""Targets: what a runtime on a kind of machine can execute, as data in `targets/*.toml`. No code per target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.config.resources import data_folder
from edgeq.config.tomlfile import Table, read_toml
from edgeq.errors import ConfigError
from edgeq.registry import nearest

__all__ = ["IO_TYPES", "Target", "load_target", "target_names", "targets"]

FORMATS = ("tflite", "onnx")
MACHINES = ("aarch64", "x86_64")
IO_TYPES = ("int8", "uint8", "float32")
WEIGHT_TYPES = {"tflite": ("int8", "int4"), "onnx": ("int8",)}
"""onnxruntime fuses no convolution with weights of four bits."""

LONGEST_NAME = 60
"""Bytes of a target's name: it stands in a folder's name behind a model's, with a suffix, in at most 255."""

_OF_FORMAT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tflite": {"runtime": ("litert",), "kernels": ("xnnpack", "builtin"), "activations": ("int8",)},
    "onnx": {"runtime": ("onnxruntime",), "kernels": ("mlas",), "activations": ("int8", "uint8")},
}


@dataclass(frozen=True)
class Target:
    """One target file. `io` is the default type of the model's inputs and outputs, `threads` what latency is measured
    with. `narrow_weights` is the narrowest type its kernels take weights of four bits or fewer in: int8 or int4.
    `metadata`: whether files tell apps how to use them, `raw_pixels` whether their inputs are pixels as they are.
    `weight_bits_without_vnni` applies to x86 machines that lack VNNI (None: no difference). `session` holds
    onnxruntime session options by name.
    """

    name: str
    description: str
    format: str
    machine: str
    runtime: str
    kernels: str
    activations: str
    io: str
    weight_bits: int
    weight_bits_without_vnni: int | None
    threads: int
    narrow_weights: str = "int8"
    metadata: bool = False
    raw_pixels: bool = False
    session: Mapping[str, str] = field(default_factory=dict)

    def bits_of_weights(self, *, vnni: bool) -> int:
        """Bits weights may use on a machine with or without VNNI."""
        if vnni or self.weight_bits_without_vnni is None:
            return self.weight_bits
        return self.weight_bits_without_vnni


def target_names() -> list[str]:
    """Names of all targets, sorted."""
    return sorted(path.stem for path in data_folder("targets").glob("*.toml"))


def targets() -> list[Target]:
    """All targets, sorted by name."""
    return [load_target(name) for name in target_names()]


def load_target(name: str) -> Target:
    """The target called `name`, or in the file `name` when that ends in ``.toml``. Raises `ConfigError`."""
    if name.endswith(".toml"):
        return _read(Path(name))
    if name not in target_names():
        raise ConfigError(f"unknown target {name!r}", hint=nearest(name, target_names()))
    return _read(data_folder("targets") / f"{name}.toml")


def _read(path: Path) -> Target:
    root = read_toml(path).only(
        "description", "format", "machine", "runtime", "kernels", "activations", "io",
        "weight_bits", "weight_bits_without_vnni", "threads", "narrow_weights", "metadata",
        "raw_pixels", "session",
    )  # fmt: skip
    _check_name(path.stem)
    narrow, packed = "weight_bits_without_vnni", "narrow_weights"
    _check_belonging(root)
    return Target(
        name=path.stem,
        description=root.text("description"),
        format=root.choice("format", FORMATS),
        machine=root.choice("machine", MACHINES),
        runtime=root.text("runtime"),
        kernels=root.text("kernels"),
        activations=root.text("activations"),
        io=root.choice("io", IO_TYPES),
        weight_bits=_bits(root, "weight_bits"),
        weight_bits_without_vnni=_bits(root, narrow) if narrow in root else None,
        threads=root.integer("threads"),
        narrow_weights=root.choice(packed, WEIGHT_TYPES[root.text("format")]) if packed in root else "int8",
        metadata=root.flag("metadata") if "metadata" in root else False,
        raw_pixels=root.flag("raw_pixels") if "raw_pixels" in root else False,
        session=_session(root),
    )


def _check_name(name: str) -> None:
    """Refuse a name that cannot stand in a folder's beside a model's."""
    if not name.isprintable() or name.startswith((".", "-", " ")) or len(name.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"target {name[:20]!r}", hint="rename the file",
            why=f"names a folder: no control character, no dot, dash or space in front, {LONGEST_NAME} bytes at most",
        )  # fmt: skip


def _check_belonging(root: Table) -> None:
    """Refuse a runtime, kernels or activations that the format does not have."""
    written = root.choice("format", FORMATS)
    for key, choices in _OF_FORMAT[written].items():
        if root.text(key) not in choices:
            raise ConfigError(
                f"{key} = {root.text(key)!r}", where=root.where, why=f"format {written} has {' or '.join(choices)}"
            )


def _bits(root: Table, name: str) -> int:
    bits = root.integer(name, minimum=2)
    if bits > 8:
        raise ConfigError(f"{name} = {bits}", where=root.where, why="weights have at most 8 bits")
    return bits


def _session(root: Table) -> dict[str, str]:
    table = root.table("session") if "session" in root else Table({}, root.where)
    return {name: table.text(name) for name in table.data}
