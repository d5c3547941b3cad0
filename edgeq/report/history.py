"""history.sqlite: what builds of each commit came to, only ever added to, with a bit for each evaluation image."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ArtifactError
from edgeq.limits import check_regular
from edgeq.measure.answers import ANSWERS, MOST, Answers
from edgeq.report.pages.index import index_rows
from edgeq.report.reading import read_report

__all__ = ["Entry", "add_entries", "entry_of", "read_entries"]

APPLICATION = 0x45515148
SCHEMA = 1
MOST_BUILDS = 100_000
TABLE = (
    "CREATE TABLE builds (id INTEGER PRIMARY KEY, hash TEXT, name TEXT, score REAL, bytes REAL, ms REAL, "
    "ratio REAL, images TEXT, n INTEGER, answers BLOB)"
)
SELECT = "SELECT hash, name, score, bytes, ms, ratio, images, n, answers FROM builds ORDER BY id LIMIT ?"
INSERT = (
    "INSERT INTO builds (hash, name, score, bytes, ms, ratio, images, n, answers) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

Blob = bytes  # the class has a field of the name bytes


@dataclass(frozen=True)
class Entry:
    """A build of commit `hash`; `name` is its model, target and bits. None for what was not measured.

    `score` is in percent, `ms` the integer file's median, `ratio` that median divided by the float network's. `answers`
    has a bit for each of the `n` images whose hash is `images`: whether the integer file answers it right.
    """

    hash: str
    name: str
    score: float | None
    bytes: float | None
    ms: float | None
    ratio: float | None
    images: str = ""
    n: int = 0
    answers: Blob = b""

    def __post_init__(self) -> None:
        numbers = (self.score, self.bytes, self.ms, self.ratio)
        texts = (self.hash, self.name, self.images)
        if (
            any(not isinstance(text, str) or len(text) > 1000 for text in texts)
            or not re.fullmatch("[0-9a-f]{4,64}", self.hash)
            or any(not isinstance(x, float) or not math.isfinite(x) or x < 0 for x in numbers if x is not None)
            or self.ratio == 0
            or not isinstance(self.n, int)
            or not 0 <= self.n <= MOST
            or not isinstance(self.answers, bytes)
            or len(self.answers) != -(-self.n // 8)
        ):
            raise ValueError("a row holds what no build came to")

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each image is answered right, ``(n,)``."""
        return np.unpackbits(np.frombuffer(self.answers, np.uint8), count=self.n).astype(bool)


def entry_of(folder: Path, commit: str) -> Entry:
    """What the build in `folder` came to. A time that must not be believed is left out. Raises `ArtifactError`."""
    read_report(folder)
    row = index_rows([folder])[0]
    right, images = None, ""
    if (folder / ANSWERS).exists():
        answers = Answers.load(folder / ANSWERS)
        right, images = answers.right(), answers.images
    ms, ratio = (None, None) if row.doubt else (row.milliseconds, row.ratio)
    score, size, ms, ratio = (None if value is None else float(value) for value in (row.score, row.bytes, ms, ratio))
    name = " ".join(text for text in (row.model, row.target, row.bits) if text)
    try:
        if right is None:
            return Entry(commit, name, score, size, ms, ratio)
        return Entry(commit, name, score, size, ms, ratio, images, len(right), np.packbits(right).tobytes())
    except ValueError as error:
        raise ArtifactError(f"the build in {folder} cannot be kept", why=str(error)) from error


def add_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Add all of `entries` or none. Makes the file when it is not there. Raises `ArtifactError`."""
    is_new = not path.exists()
    try:
        if not is_new:
            check_regular(path)
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
            store.execute("BEGIN IMMEDIATE")
            if is_new and not store.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                store.execute(TABLE)
                store.execute(f"PRAGMA application_id = {APPLICATION}")
                store.execute(f"PRAGMA user_version = {SCHEMA}")
            _check(store)
            store.executemany(INSERT, [astuple(each) for each in entries])
            store.execute("COMMIT")
    except (OSError, ValueError, sqlite3.Error) as error:
        raise _unreadable(path, error) from error


def read_entries(path: Path) -> dict[str, list[Entry]]:
    """All builds by their name, oldest first. Raises `ArtifactError` for a file that `add_entries` did not write."""
    if not path.exists():
        raise ArtifactError(f"{path} is not there", hint="edgeq history add BUILD")
    found: dict[str, list[Entry]] = {}
    try:
        check_regular(path)
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as store:
            _check(store)
            for row in store.execute(SELECT, [MOST_BUILDS]):
                entry = Entry(*row)
                found.setdefault(entry.name, []).append(entry)
    except (OSError, ValueError, TypeError, OverflowError, sqlite3.Error) as error:
        raise _unreadable(path, error) from error
    return found


def _check(store: sqlite3.Connection) -> None:
    """Refuse a database with anything but our table in it: a foreign one's triggers and views would run."""
    facts: list[Any] = [store.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if facts[0] != APPLICATION:
        raise ValueError("it is no history of edgeq")
    if facts[1] != SCHEMA:
        raise ValueError(f"it has schema {facts[1]}, this edgeq reads {SCHEMA}")
    if store.execute("SELECT type, name, sql FROM sqlite_master").fetchall() != [("table", "builds", TABLE)]:
        raise ValueError("it holds other tables than a history of edgeq")


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path} cannot be used as a history", why=str(error), hint="name another file with --db")
