"""A lock to build from again: its settings, what must be the same before the build begins, and what after it.

A lock is a stranger's file. Its values are read as settings are, and nothing that only the lock names is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeq.config.build import BuildConfig, Effective, settings_of
from edgeq.config.typed import find_faults
from edgeq.errors import ArtifactError, GateError, LockError
from edgeq.measure.answers import ANSWERS
from edgeq.model.modeltoml import shipped_models
from edgeq.products import MARKER
from edgeq.report.lock import NOT_THE_BUILD, BuildLock, differences, read_lock

__all__ = ["Locked", "NotReproduced", "load_locked"]

INPUTS = ("model", "evaluation", "target", "packages", "code_sha256", "platform")
"""Parts that a rebuild must agree with before it begins, in the order they are compared."""

COMPARED_BY_CONTENT = (
    "model.name",
    "model.checkpoint",
    "model.spec.name",
    "model.spec.evaluation",
    "target.name",
    "evaluation.name",
    "platform.platform",
)
"""Names and forms of what is compared by content, and the kernel's version, which computes nothing."""

ORDER = ("calibration.npz", "integer.safetensors")
"""Files in the order they are made, so that the first difference is the one the others follow from; then the rest."""


class NotReproduced(GateError, code="E120"):  # noqa: N818  # a verdict
    """A rebuild ended in other bytes than its lock has. `differences` names each file that is another."""

    def __init__(self, locked: Locked, differences: list[str]) -> None:
        super().__init__(
            f"these are not the bytes of {locked.path}",
            why=differences[0],
            hint="nothing was written; the same command without --locked keeps what it makes",
        )
        self.differences = differences


@dataclass(frozen=True)
class Locked:
    """A lock and where it was read."""

    path: Path
    contents: Mapping[str, Any]
    lock: BuildLock

    def config(self, effective: Effective) -> BuildConfig:
        """The lock's settings. Those that say where and how (output, cache, ...), and where inputs lie, are the user's.

        Raises `ConfigError` where the command line asks for another setting than the lock has, and where the lock names
        Python: that must be named on the command line.
        """
        locked_settings, values = self.lock.config, dict[str, Any]()
        settings = settings_of(BuildConfig)
        unknown = sorted({*locked_settings} - {*settings})
        if unknown:
            raise LockError(f"setting {unknown[0]!r}", where=str(self.path), why="this edgeq has no such setting")
        for name, setting in settings.items():
            given, origin = getattr(effective.config, name), effective.origin[name]
            where, value = f"{self.path} {name}", locked_settings.get(name)
            value = setting.default if value in (None, []) else setting.kind.parse(value, where)
            if name in NOT_THE_BUILD or (_is_place(name, value) and origin != "default"):
                values[name] = given
                continue
            if origin in (setting.flag, "MODEL") and given != value:
                raise LockError(
                    f"{setting.flag} {_format_setting(given)}",
                    why=f"{self.path} says {_format_setting(value)}",
                    hint="leave it out, or build without --locked",
                )
            _refuse_python(name, value, str(self.path))
            values[name] = value
        return BuildConfig(**values)

    def check_inputs(self, now: Mapping[str, Any], device: str) -> None:
        """Raise `ConfigError` naming the first of `now`, as `inputs_lock` makes it, that the lock has otherwise."""
        for part in INPUTS:
            one, other = ({part: lock.get(part)} for lock in (self.contents, now))
            if part == "evaluation" and now.get(part) is None:
                continue  # measures, and has no part in the bytes
            lines = [line for line in differences(one, other) if not line.startswith(COMPARED_BY_CONTENT)]
            lines.sort(key=lambda line: not line.startswith("model.weights"))  # the graph holds them, too
            if lines:
                raise LockError(f"this build would not be that of {self.path}", why=f"{lines[0]} here")
        for stage in ("synthesize", "finetune"):
            stage_lock = self.lock.stages.get(stage)
            if stage_lock is not None and stage_lock.device != device:
                raise LockError(
                    f"{stage} of {self.path} ran on {stage_lock.device}", why=f"here it would run on {device}"
                )

    def threads(self, stage: str) -> int | None:
        """Threads that `stage` ran with."""
        return self.lock.stages[stage].threads if stage in self.lock.stages else None

    def check_files(self, files: Mapping[str, Any]) -> None:
        """Raise `NotReproduced` where `files` (name to bytes and sha256) are not those of the lock.

        What was measured is left out: a rebuild may have no evaluation images, and the float network's answers near a
        tie depend on the number of threads.
        """
        locked, files = ({k: v for k, v in each.items() if k != ANSWERS} for each in (self.contents["files"], files))
        names = sorted({*locked, *files}, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
        lines = [line for name in names for line in _difference(name, locked.get(name), files.get(name))]
        if lines:
            raise NotReproduced(self, lines)


def load_locked(path: Path) -> Locked:
    """The lock at `path`, or of the build in the folder `path`. Raises `ArtifactError`."""
    path = path / MARKER if path.is_dir() else path
    contents = read_lock(path)
    for fault in find_faults(contents, BuildLock):
        if fault.problem != "unknown":
            hint = "it is of another edgeq, or of edgeq synth" if fault.problem == "missing" else ""
            raise ArtifactError(f"{path} cannot be built from", why=fault.text, hint=hint)
    return Locked(path, contents, msgspec.convert(contents, BuildLock))


def _format_setting(value: Any) -> str:
    """A setting as one types it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _is_place(name: str, value: Any) -> bool:
    """Whether a setting says where an input lies: then another place will do, if it holds the same."""
    if name == "method":
        return str(value).startswith("images:")
    if name == "targets":
        return all(target.endswith(".toml") for target in value)
    return name in ("model", "weights", "evaluation")


def _refuse_python(name: str, value: Any, where: str) -> None:
    """Code must be named by the person who runs it."""
    if name == "model":
        data = value is None or value.startswith(("torchvision:", "timm:")) or value.endswith(".pt2")
        if not data and value not in shipped_models():
            raise LockError(
                f"{where} names the model {value!r}",
                why="what only a lock names is not imported",
                hint="name MODEL on the command line, too",
            )
    elif name in ("method", "evaluation") and value and value.rpartition(":")[0].endswith(".py"):
        raise LockError(f"{where} names {value!r}", why="what only a lock names is not imported", hint=f"give --{name}")


def _difference(name: str, one: Any, other: Any) -> list[str]:
    if one == other:
        return []
    if one is None or other is None:
        return [f"{name} is {'not in the lock' if one is None else 'only in the lock'}"]
    return [f"{name} is another: sha256 {str(one.get('sha256'))[:12]}... there, {other['sha256'][:12]}... here"]
