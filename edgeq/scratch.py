"""Temporary folders that go when their user does, and at the latest when edgeq runs again.

A folder's `lock` file is locked for as long as its process lives: the kernel lets go even after `kill -9`, and the next
`scratch` removes what nobody holds. Only folders with the names made here, of the same user, are touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["scratch"]

PREFIX = "edgeq-run-"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make an empty temporary folder that nobody else can read; it is gone afterwards. Its path is short."""
    if fcntl is None:
        with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    _sweep()
    held = False
    while not held:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            with (folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Until the lock was held, another process could take the folder for one that nobody uses any more.
                held = os.fstat(lock.fileno()).st_nlink > 0
                if held:
                    yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove folders whose processes are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else was quicker, holds it, or it is not ours
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
