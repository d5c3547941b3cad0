"""edgeq.lock: everything a build depended on, so that it can be made again and two builds can be told apart.

The same lock on the same type of machine gives the same bytes, unless a GPU computed: its sums have no fixed order. It
is JSON with sorted keys: equal locks are equal files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeq.config.typed import Count
from edgeq.errors import ArtifactError
from edgeq.limits import read_json

__all__ = [
    "MAKING",
    "NOT_THE_BUILD",
    "BuildLock",
    "build_lock",
    "changed_entries",
    "differences",
    "inputs_lock",
    "lock_text",
    "portable",
    "read_lock",
    "spec_digest",
]

SCHEMA = 1

NOT_THE_BUILD = ("output", "cache", "force", "strict", "devices", "show_images")
"""Settings that say where and how, not what."""

MAKING = ("synthesize", "calibrate", "finetune", "write")
"""Stages that decide the bytes of a build's files."""


class LockedStage(msgspec.Struct):
    """What a stage that decides bytes really ran with."""

    threads: Annotated[int, Meta(ge=1, le=4096)]
    device: str


class LockedFile(msgspec.Struct):
    """A file of the build."""

    bytes: Count
    sha256: str


class BuildLock(msgspec.Struct):
    """The parts of a lock that a rebuild reads. They are compared as they are, so not everything in them has a type."""

    model: dict[str, Any]
    config: dict[str, Any]
    target: dict[str, Any]
    packages: dict[str, str]
    platform: dict[str, Any]
    stages: dict[str, LockedStage]
    files: dict[str, LockedFile]


def inputs_lock(
    *,
    model: str,
    weights_sha256: str,
    graph_sha256: str,
    checkpoint: Mapping[str, str] | None,
    evaluation: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    recipe: Mapping[str, Any],
    target: Mapping[str, Any],
    packages: Mapping[str, str],
    code_sha256: str,
    machine: Mapping[str, Any],
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is known of a build before it begins: the part of its lock that a rebuild is compared with first.

    `checkpoint` holds name and sha256 of the file that weights came from, `evaluation` name, number and sha256 of
    evaluation images; None for none. `recipe` holds every setting of the methods used. `packages` are versions by name,
    ``python`` among them. `code_sha256` is `edgeq.versions.source_digest`. Of `machine`, which `Machine.to_json` gives,
    only what decides kernels is kept.
    `spec` says how images become the network's input and what its outputs mean (`edgeq.pipeline.origin.origin_facts`);
    its hash stands beside it, so that a change by hand is noticed. Absolute paths lose their folders.
    """
    return {
        "schema": SCHEMA,
        "model": {
            "name": model,
            "weights_sha256": weights_sha256,
            "graph_sha256": graph_sha256,
            "checkpoint": portable(checkpoint),
            **({"spec": dict(spec), "spec_sha256": spec_digest(spec)} if spec else {}),
        },
        "evaluation": portable(evaluation),
        "config": {key: portable(value) for key, value in config.items() if key not in NOT_THE_BUILD},
        "recipe": portable(recipe),
        "target": portable(target),
        "packages": dict(packages),
        "code_sha256": code_sha256,
        "platform": {key: machine.get(key) for key in ("architecture", "platform", "flags")},
    }


def spec_digest(spec: Mapping[str, Any]) -> str:
    """sha256, as hex digits, of a lock's ``model.spec``."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def build_lock(
    inputs: Mapping[str, Any],
    *,
    stages: Mapping[str, Mapping[str, Any]],
    integer_sha256: str,
    calibration: Mapping[str, Any],
    artifact: Mapping[str, Any],
    files: Mapping[str, bytes],
    runtime: str,
) -> dict[str, Any]:
    """The lock of a finished build that began with `inputs` (see `inputs_lock`).

    `stages` are what each stage noted of its own run, when it really ran: threads, device, packages. `calibration`
    holds method, images and sha256; `artifact` path, bytes and sha256; `files` the contents of the folder's files, of
    which number of bytes and sha256 are kept.
    """
    packages = {name: text for noted in stages.values() for name, text in noted["packages"].items()}
    edgeq = {name: text for name, text in inputs["packages"].items() if name == "edgeq"}
    return {
        **inputs,
        "packages": {**edgeq, **packages},
        "stages": {
            stage: {key: stages[stage][key] for key in ("threads", "device")} for stage in MAKING if stage in stages
        },
        "integer_sha256": integer_sha256,
        "calibration": {key: portable(calibration.get(key)) for key in ("method", "images", "sha256")},
        "artifact": portable(artifact),
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
        "runtime": runtime,
    }


def lock_text(contents: Mapping[str, Any]) -> str:
    """What stands in the file; equal contents give equal text."""
    return json.dumps(contents, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def portable(value: Any) -> Any:
    """`value` as JSON has it, with absolute paths cut to their last part: a lock names no folder of a machine."""
    if isinstance(value, Mapping):
        return {str(key): portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    if isinstance(value, Path):
        return portable(str(value))
    if isinstance(value, str):
        before, colon, rest = value.partition(":")
        if colon and len(before) > 1 and _absolute(rest):  # images:/some/where/photos
            return f"{before}:{portable(rest)}"
        return PureWindowsPath(value).name if _absolute(value) else value
    return value


def _absolute(text: str) -> bool:
    return text.startswith(("/", "~")) or PureWindowsPath(text).is_absolute()


def read_lock(path: Path) -> dict[str, Any]:
    """Read what `lock_text` wrote. Raises `ArtifactError` for anything else."""
    try:
        contents = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not a lock", why=str(error)) from error
    if not isinstance(contents, dict) or contents.get("schema") != SCHEMA:
        raise ArtifactError(f"{path} is not a lock of schema {SCHEMA}", hint="was it written by another edgeq?")
    return contents


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Keys in which two locks differ, with both values, in order."""
    return [f"{key}: {left!r} against {right!r}" for key, left, right in changed_entries(one, other)]


def changed_entries(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The keys in which two locks differ (``config.seed``), each with both values, in order; None for a missing one."""
    entries: list[tuple[str, Any, Any]] = []
    open_ones: list[tuple[str, Any, Any]] = [("", one, other)]
    while open_ones:
        where, left, right = open_ones.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            prefix = f"{where}." if where else ""
            keys = sorted({*left, *right}, reverse=True)
            open_ones += [(f"{prefix}{key}", left.get(key), right.get(key)) for key in keys]
        elif left != right:
            entries.append((where, left, right))
    return entries
