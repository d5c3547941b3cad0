"""What a stage cache holds, and how it is emptied: nothing in it is ever removed by itself."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUSY", "Kept", "clear", "contents"]

BUSY = 3600.0
"""Seconds since its last change within which an unfinished stage may be a running one."""

_NAME = re.compile(r"([a-z]+)-[0-9a-f]{24}")


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
    """What `edgeq.cache.StageCache` keeps in `folder`, by stage and age; whatever else lies there is not looked at."""
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
