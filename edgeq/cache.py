"""Stages remembered by the hash of everything they read.

An entry is a folder named after the stage and its key. It is filled beside and renamed into place, so an interrupted
stage leaves nothing behind but its checkpoints. Its ``facts.json`` holds size and sha256 of every file; all of it is
checked whenever the entry is used, and a damaged entry is made anew. Nothing else is ever removed by itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from edgeq.errors import ArtifactError
from edgeq.files import beside
from edgeq.fingerprint import file_sha256, fingerprint
from edgeq.progress import Progress
from edgeq.sealed import open_json, seal_json
from edgeq.sharedcache import FACTS, LARGEST_FACTS, SharedCache
from edgeq.store import Bucket, is_address

__all__ = ["BUSY", "CacheEntry", "Result", "StageCache", "Workspace", "clear", "contents", "key_of", "open_cache"]

BUSY = 3600.0
"""Seconds since its last change within which an unfinished stage may be a running one."""

NO_LOCK = (OSError, NotImplementedError, RuntimeError)
"""What filelock raises where there can be no lock, or where waiting for it would never end."""

_NAME = re.compile(r"([a-z]+)-[0-9a-f]{24}")
"""Name of an entry: its stage and `key_of` what it read."""

T = TypeVar("T")


def key_of(inputs: object) -> str:
    """The part of an entry's name that says what the stage read. Raises as `fingerprint` does."""
    return fingerprint(inputs)[:24]


@dataclass(frozen=True)
class Workspace:
    """What a stage is given beside its inputs: a `folder` for its files, a `checkpoint` folder (not made yet) that
    survives interruption, and who hears of its progress."""

    folder: Path
    checkpoint: Path
    progress: Progress


@dataclass(frozen=True)
class Result:
    """Files a stage made (by name), the facts it noted, and how long it took when it really ran.

    `value` is what the stage's reader made of these.
    """

    files: Mapping[str, Path]
    facts: Mapping[str, Any]
    seconds: float
    cached: bool
    value: Any = None


Work = Callable[[T, Workspace], Mapping[str, Any]]
"""Does a stage's work on its inputs, leaves files in the workspace's folder and returns JSON-able facts. It reads
nothing but its inputs, whose every field is in the key."""

Reader = Callable[[Result], Any]
"""Makes values of a result. Where it raises, a cached result counts as damaged."""


class StageCache:
    """Runs stages or finds them done. `forced` names stages that run again whatever the cache holds.

    What the folder lacks is looked for in `shared`, and offered to it once made.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        forced: frozenset[str] = frozenset(),
        shared: SharedCache | None = None,
    ) -> None:
        self.folder, self.progress, self.forced, self.shared = folder, progress, forced, shared

    def run(self, stage: str, inputs: T, work: Work[T], read: Reader = lambda _: None) -> Result:
        """The result of ``work(inputs, ...)``, from the cache where it has finished before for equal `inputs`.

        A result that is damaged, or that `read` cannot read, is made anew, and a line says so. Raises `ArtifactError`
        where the result cannot be kept, and whatever `work` raises.
        """
        name = f"{stage}-{key_of(inputs)}"
        entry = self.folder / name
        found = self._found(stage, entry, read)
        if found is not None:
            return found
        checkpoint = self.folder / "unfinished" / name
        with self._alone(stage, checkpoint) as waited:
            # Another build may have made it meanwhile.
            found = self._found(stage, entry, read) if waited else None
            found = found or self._fetched(stage, entry, read)
            if found is not None:
                return found
            made = self._make(stage, name, inputs, work, read)
            if self.shared is not None:
                with contextlib.suppress(OSError):  # somebody clears the cache this moment
                    self.shared.offer(entry)
            return made

    def _fetched(self, stage: str, entry: Path, read: Reader) -> Result | None:
        """The result in the shared store, where it is sound; the local cache has it then."""
        if self.shared is None or stage in self.forced:
            return None
        try:
            with beside(entry) as filling:
                if not self.shared.fetch(entry.name, filling):
                    return None
                _put(filling, entry)
        except (OSError, ArtifactError):  # no space, say: `_make` says what is wrong
            return None
        return self._found(stage, entry, read)

    def _found(self, stage: str, entry: Path, read: Reader) -> Result | None:
        """The result in the cache, where it is sound and may be used."""
        found = None if stage in self.forced else _sound(entry, read)
        if found is not None:
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(entry)  # when it was last of use
            self.progress.done(stage, found.seconds, cached=True)
        return found

    @contextlib.contextmanager
    def _alone(self, stage: str, checkpoint: Path) -> Iterator[bool]:
        """Hold the lock of a stage, so that builds that run at once compute it once; whether that meant waiting.

        The lock is one of the system's: it ends with the process that holds it, however that ends. Where there can be
        none, such as on some network drives, the stage runs without.
        """
        lock = FileLock(f"{checkpoint}.lock")
        waited = False
        with contextlib.suppress(*NO_LOCK):
            try:
                lock.acquire(blocking=False)
            except Timeout:
                waited = True
                self.progress.note(f"{stage}: another build computes the same; waiting for it")
                lock.acquire()
        try:
            yield waited
        finally:
            if lock.is_locked:
                with contextlib.suppress(OSError):  # who waits for it looks into the cache next, and needs it no more
                    os.unlink(lock.lock_file)
                lock.release()
            with contextlib.suppress(OSError):
                checkpoint.parent.rmdir()  # where it is empty

    def _make(self, stage: str, name: str, inputs: T, work: Work[T], read: Reader) -> Result:
        entry, checkpoint = self.folder / name, self.folder / "unfinished" / name
        if stage not in self.forced and os.path.lexists(entry):
            self.progress.note(f"the cached result of {stage} was damaged and is made anew")
        self.progress.stage(stage)
        with beside(entry) as filling:
            try:
                started = time.monotonic()
                facts = work(inputs, Workspace(filling, checkpoint, self.progress))
                _seal_entry(filling, name, facts, time.monotonic() - started)
                # Another build may have been faster, and may be reading what it made.
                if stage in self.forced or _sound(entry, read) is None:
                    _put(filling, entry)
            except OSError as error:
                why = f"{error.strerror or error}: {error.filename or entry}"
                raise ArtifactError(
                    f"cannot keep the result of {stage}", why=why, hint="free some space or set --cache"
                ) from error
        shutil.rmtree(checkpoint, ignore_errors=True)
        result = _read(entry)
        if result is None:
            raise ArtifactError(f"the cache entry of {stage} vanished", where=str(entry), hint="run again")
        result = replace(result, cached=False, value=read(result))
        self.progress.done(stage, result.seconds, cached=False)
        return result


def open_cache(folder: Path, progress: Progress, forced: frozenset[str] = frozenset()) -> StageCache:
    """The cache in `folder`, and behind it the store where ``EDGEQ_CACHE`` is an address.

    Raises `ConfigError` for an address that cannot be used.
    """
    address = os.environ.get("EDGEQ_CACHE", "")
    shared = SharedCache(Bucket(address), progress.note) if is_address(address) else None
    return StageCache(folder, progress, forced, shared)


def _seal_entry(folder: Path, name: str, facts: Mapping[str, Any], seconds: float) -> None:
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in folder.iterdir()}
    body = {"entry": name, "seconds": seconds, "facts": dict(facts), "files": files}
    (folder / FACTS).write_text(seal_json(body))


def _put(filling: Path, entry: Path) -> None:
    """Rename `filling` to `entry`, in place of what stands there under that name."""
    with contextlib.suppress(FileNotFoundError):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    try:
        os.replace(filling, entry)
    except OSError:
        if _read(entry) is None:  # not because another build put its own there this very moment
            raise


def _sound(entry: Path, read: Reader) -> Result | None:
    """The entry's result where it is whole and `read` can read it."""
    result = _read(entry)
    if result is None:
        return None
    try:
        return replace(result, value=read(result))
    except Exception:  # files with the right hashes can still hold anything: a stranger may have made the entry
        return None


def _read(entry: Path) -> Result | None:
    """What lies in `entry`, every byte checked against its hash; None where it is not what a stage left."""
    try:
        if not stat.S_ISDIR(entry.lstat().st_mode) or not 0 < _plain_size(entry / FACTS) <= LARGEST_FACTS:
            return None
        body = open_json((entry / FACTS).read_bytes())
        seconds, files = body["seconds"], body["files"]
        paths = {name: entry / name for name in sorted(files)}
        if body["entry"] != entry.name or {FACTS, *files} != set(os.listdir(entry)) or FACTS in files:
            return None
        if not isinstance(body["facts"], dict) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
            return None
        whole = all(
            _plain_size(path) == files[name]["bytes"] and file_sha256(path) == files[name]["sha256"]
            for name, path in paths.items()
        )
        return Result(paths, body["facts"], float(seconds), cached=True) if whole else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return None


def _plain_size(path: Path) -> int:
    """Bytes of a regular file; a link or a folder has the size of nothing."""
    state = path.lstat()
    return state.st_size if stat.S_ISREG(state.st_mode) else -1


@dataclass(frozen=True)
class CacheEntry:
    """One result, or the checkpoints of a stage that was interrupted. `used` is when it was last made or found."""

    path: Path
    stage: str
    finished: bool
    bytes: int
    used: float

    def age(self, now: float) -> float:
        """Seconds since it was of use, at the time `now`."""
        return max(0.0, now - self.used)


def contents(folder: Path) -> list[CacheEntry]:
    """What a `StageCache` keeps in `folder`, by stage and age; whatever else lies there is not looked at."""
    entries = [*_in(folder, finished=True), *_in(folder / "unfinished", finished=False)]
    return sorted(entries, key=lambda entry: (not entry.finished, entry.stage, entry.used))


def clear(entries: Sequence[CacheEntry], older: float = 0.0) -> list[CacheEntry]:
    """Remove those not used for `older` seconds, and return them.

    What is unfinished and changed within `BUSY` stays: a build may be at it. Raises `OSError`.
    """
    now = time.time()
    gone = [one for one in entries if one.age(now) >= (older if one.finished else max(older, BUSY))]
    for one in gone:
        shutil.rmtree(one.path)
    return gone


def _in(folder: Path, finished: bool) -> list[CacheEntry]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    entries = []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name and path.is_dir() and not path.is_symlink():
            files = [path, *path.rglob("*")]
            states = [file.lstat() for file in files]
            used = path.stat().st_mtime if finished else max(state.st_mtime for state in states)
            entries.append(CacheEntry(path, name[1], finished, sum(state.st_size for state in states[1:]), used))
    return entries
