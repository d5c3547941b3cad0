"""Temporary folders are nobody else's, whatever other processes of edgeq clear away at the same moment."""

from __future__ import annotations

import fcntl
import tempfile
from pathlib import Path
from typing import IO

import pytest

from edgeq import scratch as module
from edgeq.scratch import scratch


def test_a_folder_swept_before_it_is_held_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    flock, lost = fcntl.flock, []

    def late(lock: IO[str], how: int) -> None:
        if how == fcntl.LOCK_EX and not lost:
            lost.append(Path(lock.name).parent)
            module._sweep()  # as another process would, which finds the lock free
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch() as folder:
        assert lost
        assert not lost[0].exists()
        (folder / "file").write_text("kept")
        module._sweep()
        assert [path.name for path in sorted(folder.iterdir())] == ["file", "lock"]
    assert list(tmp_path.iterdir()) == []
