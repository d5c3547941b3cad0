"""Stages remembered by the hash of what they read.

An entry is a folder named after the stage and its key. It is filled beside and renamed into place, so an entry that
exists is whole and an interrupted stage leaves nothing behind but its checkpoints. Nothing is ever removed by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.files import beside
from edgeq.progress import Progress

__all__ = ["BUSY", "Kept", "Result", "StageCache", "clear", "contents", "key_of"]

BUSY = 3600.0
"""Seconds since its last change within which an unfinished stage may be a running one."""

_NAME = re.compile(r"([a-z]+)-[0-9a-f]{24}")
"""Of an entry: its stage and `key_of` what it read."""


def key_of(parts: Mapping[str, Any]) -> str:
    """A short stable hash of JSON-able facts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Result:
    """Files a stage made (by name), the facts it noted, and how long it took when it really ran."""

    files: Mapping[str, Path]
    facts: Mapping[str, Any]
    seconds: float
    cached: bool


Work = Callable[[Path], Mapping[str, Any]]
"""Does a stage's work into the folder it is given and returns JSON-able facts."""


class StageCache:
    """Runs stages or finds them done. `forced` names stages that run again whatever the cache holds."""

    def __init__(self, folder: Path, progress: Progress, forced: frozenset[str] = frozenset()) -> None:
        self.folder, self.progress, self.forced = folder, progress, forced

    def scratch(self, stage: str, parts: Mapping[str, Any]) -> Path:
        """A folder that survives interruption, for the checkpoints of a long stage."""
        return self.folder / "unfinished" / f"{stage}-{key_of(parts)}"

    def run(self, stage: str, parts: Mapping[str, Any], work: Work) -> Result:
        """The result of `work` for these `parts`, from the cache where an equal run has finished before."""
        entry = self.folder / f"{stage}-{key_of(parts)}"
        if stage in self.forced:
            shutil.rmtree(entry, ignore_errors=True)
        found = _read(entry)
        if found is not None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(entry)  # when it was last of use
            self.progress.done(stage, found.seconds, cached=True)
            return found
        self.progress.stage(stage)
        with beside(entry) as filling:
            try:
                started = time.monotonic()
                facts = work(filling)
                seconds = time.monotonic() - started
                (filling / "facts.json").write_text(json.dumps({"seconds": seconds, "facts": dict(facts)}))
                if _read(entry) is None:  # else another build was faster, and may be reading what it made
                    shutil.rmtree(entry, ignore_errors=True)
                    _move(filling, entry)
            except OSError as error:
                why = f"{error.strerror or error}: {error.filename or entry}"
                raise ArtifactError(
                    f"cannot keep the result of {stage}", why=why, hint="free some space or set --cache"
                ) from error
        shutil.rmtree(self.scratch(stage, parts), ignore_errors=True)
        result = _read(entry)
        if result is None:
            raise ArtifactError(f"the cache entry of {stage} vanished", where=str(entry), hint="run again")
        self.progress.done(stage, result.seconds, cached=False)
        return Result(result.files, result.facts, result.seconds, cached=False)


def _move(filling: Path, entry: Path) -> None:
    try:
        os.replace(filling, entry)
    except OSError:
        if _read(entry) is None:  # not because another build put its own there this very moment
            raise


def _read(entry: Path) -> Result | None:
    try:
        noted = json.loads((entry / "facts.json").read_text())
        files = {path.name: path for path in sorted(entry.iterdir()) if path.name != "facts.json"}
        return Result(files, noted["facts"], float(noted["seconds"]), cached=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Kept:
    """One result, or the checkpoints of a stage that was interrupted. `used` is when it was last made or found."""

    path: Path
    stage: str
    finished: bool
    bytes: int
    used: float

    def age(self, now: float) -> float:
        """Seconds since it was of use, at the time `now`."""
        return max(0.0, now - self.used)


def contents(folder: Path) -> list[Kept]:
    """What a `StageCache` keeps in `folder`, by stage and age; whatever else lies there is not looked at."""
    found = [*_in(folder, finished=True), *_in(folder / "unfinished", finished=False)]
    return sorted(found, key=lambda kept: (not kept.finished, kept.stage, kept.used))


def clear(kept: Sequence[Kept], older: float = 0.0) -> list[Kept]:
    """Remove those not used for `older` seconds, and return them.

    What is unfinished and changed within `BUSY` stays: a build may be at it. Raises `OSError`.
    """
    now = time.time()
    gone = [one for one in kept if one.age(now) >= (older if one.finished else max(older, BUSY))]
    for one in gone:
        shutil.rmtree(one.path)
    return gone


def _in(folder: Path, finished: bool) -> list[Kept]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name and path.is_dir() and not path.is_symlink() and (path / "facts.json").is_file() == finished:
            files = [path, *path.rglob("*")]
            states = [file.lstat() for file in files]
            used = path.stat().st_mtime if finished else max(state.st_mtime for state in states)
            found.append(Kept(path, name[1], finished, sum(state.st_size for state in states[1:]), used))
    return found
