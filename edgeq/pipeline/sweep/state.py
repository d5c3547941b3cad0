"""What each build of a sweep came to: one small file each, so that a killed sweep loses none and anybody can look."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock, Timeout
from msgspec import Meta

from edgeq.config.sweep import Sweep
from edgeq.config.typed import find_faults
from edgeq.config.typed import read as read_typed
from edgeq.errors import ConfigError, OccupiedError, printable
from edgeq.files import write_atomic
from edgeq.limits import read_bytes
from edgeq.sealed import open_json, seal_json

__all__ = ["Outcome", "ask_to_cancel", "at_work", "cancelled", "is_running", "keep", "outcome_json", "outcomes"]

Word = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]

LARGEST = 2**16
"""Bytes of a state file that are read."""

CANCEL = "cancel"
LOCK = "lock"


@dataclass(frozen=True)
class Outcome:
    """What one build came to. `command` is the command line that it was, `error` the line that it failed with.

    `stages` says of each stage whether it was ``computed`` or ``cached``; of a running build, the last is the one it is
    at. `began` is seconds since 1970.
    """

    name: str
    word: Word = "waiting"
    command: Sequence[str] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    exit_status: Annotated[int, Meta(ge=-255, le=255)] = 0
    error: str = ""
    began: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0

    @property
    def stage(self) -> str:
        """The stage that a running build is at."""
        return ["starting", *self.stages][-1] if self.word == "running" else ""


def keep(folder: Path, outcome: Outcome) -> None:
    """Write what a build came to, in place of what it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / f"{outcome.name}.json", seal_json(dataclasses.asdict(outcome)))


def outcomes(sweep: Sweep) -> list[Outcome]:
    """What each build has come to, in the order of the file. One that says it runs while no sweep does was cut off."""
    running = is_running(sweep)
    found = [_read(sweep.state / f"{planned.name}.json", planned.name) for planned in sweep.builds]
    return [
        dataclasses.replace(one, word="interrupted") if one.word == "running" and not running else one for one in found
    ]


def _read(path: Path, name: str) -> Outcome:
    """A state file of anybody; what is none says that the build waits."""
    try:
        body = open_json(read_bytes(path, LARGEST))
        if not isinstance(body, dict) or body.get("name") != name or list(find_faults(body, Outcome)):
            return Outcome(name)
        outcome = read_typed(body, Outcome, str(path))
    except (OSError, ValueError, ConfigError):
        return Outcome(name)
    return dataclasses.replace(outcome, error=printable(outcome.error))


@contextlib.contextmanager
def at_work(sweep: Sweep) -> Iterator[None]:
    """Hold a sweep's folder for one run. Raises `OccupiedError` where another holds it."""
    sweep.state.mkdir(parents=True, exist_ok=True)
    lock = FileLock(sweep.state / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        hint = f"edgeq sweep status {sweep.file}, or edgeq sweep cancel {sweep.file}"
        raise OccupiedError(f"a sweep is at work in {sweep.output}", hint=hint) from error
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(sweep.state / CANCEL)
        yield
    finally:
        lock.release()


def is_running(sweep: Sweep) -> bool:
    """Whether a process on this machine is at work on the sweep."""
    if not (sweep.state / LOCK).exists():
        return False
    lock = FileLock(sweep.state / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def ask_to_cancel(sweep: Sweep) -> None:
    """Leave word that the sweep shall end; whoever runs its builds looks for it."""
    write_atomic(sweep.state / CANCEL, f"{time.time():.0f}\n")


def cancelled(folder: Path) -> bool:
    """Whether somebody left word in a sweep's folder of states."""
    return (folder / CANCEL).exists()


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """For `--json`: the outcome and the stage that it is at."""
    return dataclasses.asdict(outcome) | {"stage": outcome.stage or None}
