"""Targets: what a runtime on a kind of machine can execute, as data in `targets/*.toml`. No code per target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from edgeq.config.formats import FORMATS
from edgeq.config.resources import data_folder
from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import Bits, Name, Positive, read, refuse_unknown
from edgeq.errors import ConfigError, TargetError
from edgeq.registry import nearest

__all__ = ["IO_TYPES", "Target", "load_target", "target_names", "targets"]

IO_TYPES = ("int8", "uint8", "float32")
LONGEST_NAME = 60
"""Bytes of a target's name: it stands in a folder's name behind a model's, with a suffix, in at most 255."""


@dataclass(frozen=True)
class Target:
    """One target file. `io` is the default type of the model's inputs and outputs, `threads` what latency is measured
    with. `narrow_weights` is the narrowest type its kernels take weights of four bits or fewer in: int8 or int4.
    `metadata`: whether files tell apps how to use them, `raw_pixels` whether their inputs are pixels as they are.
    `weight_bits_without_vnni` applies to x86 machines that lack VNNI (None: no difference). `session` holds
    onnxruntime session options by name.
    """

    name: Name
    description: Name
    format: Name
    machine: Literal["aarch64", "x86_64"]
    runtime: Name
    kernels: Name
    activations: Name
    io: Literal["int8", "uint8", "float32"]
    weight_bits: Bits
    threads: Positive
    weight_bits_without_vnni: Bits | None = None
    narrow_weights: Name = "int8"
    metadata: bool = True
    raw_pixels: bool = False
    session: Mapping[str, Name] = field(default_factory=dict)

    def bits_of_weights(self, *, vnni: bool) -> int:
        """The bits that weights may have on a machine with or without VNNI."""
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
        raise TargetError(f"unknown target {name!r}", hint=nearest(name, target_names()))
    return _read(data_folder("targets") / f"{name}.toml")


def _read(path: Path) -> Target:
    table, where = read_toml(path), str(path)
    refuse_unknown(table, [each.name for each in fields(Target) if each.name != "name"], where)
    _check_name(path.stem)
    target = read({**table, "name": path.stem}, Target, where)
    try:
        facts = FORMATS.get(target.format)
    except ConfigError as error:
        raise TargetError(f"format = {target.format!r}", where=where, why=error.what, hint=error.hint) from error
    allowed = {
        "runtime": facts.runtimes[:1],
        "kernels": facts.kernels,
        "activations": facts.activations,
        "narrow_weights": facts.weight_types,
    }
    for key, choices in allowed.items():
        if getattr(target, key) not in choices:
            raise TargetError(
                f"{key} = {getattr(target, key)!r}",
                where=where,
                why=f"format {target.format} has {' or '.join(choices)}",
            )
    return target


def _check_name(name: str) -> None:
    """Refuse a name that cannot stand in a folder's beside a model's."""
    if not name.isprintable() or name.startswith((".", "-", " ")) or len(name.encode()) > LONGEST_NAME:
        raise TargetError(
            f"target {name[:20]!r}",
            hint="rename the file",
            why=f"names a folder: no control character, no dot, dash or space in front, {LONGEST_NAME} bytes at most",
        )
