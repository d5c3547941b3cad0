"""Lease objects in a folder, on this machine or on one that several machines mount."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from edgeq.device.leases import LARGEST, LeaseStore
from edgeq.errors import ArtifactError
from edgeq.files import write_atomic
from edgeq.limits import read_bytes

__all__ = ["LeaseFolder"]

PATIENCE = 30.0
"""Seconds to wait while another process changes an object."""


class LeaseFolder(LeaseStore):
    """Objects are files of `folder`, which is made when needed; a file lock beside them makes each change whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        try:
            return read_bytes(self.folder / key, LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._refused(error) from error

    def create(self, key: str, data: bytes) -> bool:
        return self._change(key, data, None)

    def replace(self, key: str, data: bytes, before: bytes) -> bool:
        return self._change(key, data, before)

    def delete(self, key: str, before: bytes) -> bool:
        return self._change(key, None, before)

    def keys(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.folder) if name.endswith(".json"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._refused(error) from error

    def _change(self, key: str, data: bytes | None, before: bytes | None) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=PATIENCE, poll_interval=0.02):
                if self.get(key) != before:
                    return False
                if data is None:
                    (self.folder / key).unlink()
                else:
                    write_atomic(self.folder / key, data)
        except OSError as error:  # filelock's Timeout is one, too
            raise self._refused(error) from error
        return True

    def _refused(self, error: OSError) -> ArtifactError:
        return ArtifactError(
            "leases of boards cannot be kept",
            where=str(self.folder),
            why=error.strerror or str(error),
            hint="make that folder writable, or set EDGEQ_CACHE to another",
        )
