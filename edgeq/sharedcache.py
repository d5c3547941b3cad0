"""Finished stages that machines share: read from a store into the local cache, and offered to it once made.

A result is ``entries/NAME.json`` (its sealed ``facts.json``) and one ``blobs/SHA256`` for each file. Blobs come first
and are named after what they hold, so a writer that dies, or two that write at once, leave no half or mixed result.
Nothing is replaced. The store is not trusted: sizes are limited, every hash is checked, and only the formats that run
no code are taken. What verifies or measures a file is never shared: each machine does that itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.sealed import open_json
from edgeq.store import Store

__all__ = ["FACTS", "LARGEST_FACTS", "SharedCache"]

FACTS = "facts.json"
LARGEST_FACTS = 64 * 2**20
"""Bytes of a ``facts.json`` that are read: real ones have a few kilobytes."""

LARGEST = 2 * 2**30
"""Bytes of all files of a result that is shared."""

STAGES = frozenset({"synthesize", "statistics", "calibrate", "finetune"})
"""Stages whose results are shared."""

_FILE = re.compile(r"[A-Za-z0-9_-]+\.(json|npz|safetensors)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class SharedCache:
    """The results in `store`. Where it does not work, `note` hears of it once, and work goes on without it."""

    def __init__(self, store: Store, note: Callable[[str], None]) -> None:
        self.store, self._note, self._works = store, note, True

    def fetch(self, name: str, folder: Path) -> bool:
        """Fill `folder` with the result called `name`; False where there is none that is sound. Raises `OSError`."""
        if not self._shares(name):
            return False
        try:
            sealed = self.store.get(_entry(name), LARGEST_FACTS)
            if sealed is None:
                return False
            for file, facts in _files(name, sealed).items():
                data = self.store.get(f"blobs/{facts['sha256']}", facts["bytes"])
                if data is None or hashlib.sha256(data).hexdigest() != facts["sha256"]:
                    raise ValueError(f"{file} is {'missing' if data is None else 'damaged'}")
                (folder / file).write_bytes(data)
            (folder / FACTS).write_bytes(sealed)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self._note(f"{name} in {self.store.address} is not used: {error}")
            return False
        except ArtifactError as error:
            self._stop(error)
            return False
        return True

    def offer(self, entry: Path) -> None:
        """Store the finished result in the folder `entry`, unless the store has one of that name. Raises `OSError`."""
        if not self._shares(entry.name):
            return
        try:
            sealed = (entry / FACTS).read_bytes()
            files = _files(entry.name, sealed)
        except (ValueError, LookupError, TypeError, AttributeError):
            return  # a format that is not shared, or too large
        try:
            for file, facts in files.items():
                self.store.create(f"blobs/{facts['sha256']}", (entry / file).read_bytes())
            self.store.create(_entry(entry.name), sealed)
        except ArtifactError as error:
            self._stop(error)

    def _shares(self, name: str) -> bool:
        return self._works and name.partition("-")[0] in STAGES

    def _stop(self, error: ArtifactError) -> None:
        self._works = False
        self._note(f"{error}; going on with the local cache alone")


def _entry(name: str) -> str:
    return f"entries/{name}.json"


def _files(name: str, sealed: bytes) -> dict[str, Any]:
    """Size and hash of each file of a result. Raises `ValueError` and its kin where it may not be shared."""
    body = open_json(sealed)
    files: dict[str, Any] = body["files"]
    if body["entry"] != name:
        raise ValueError("it is another result")
    for file, facts in files.items():
        if not _FILE.fullmatch(file) or file == FACTS or not _SHA256.fullmatch(facts["sha256"]):
            raise ValueError("it has files that are not shared")
        if type(facts["bytes"]) is not int or facts["bytes"] < 0:
            raise ValueError("it states no size")
    if sum(facts["bytes"] for facts in files.values()) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    return files
