"""What every test has."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.device import transport


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and pushed files of tests stay in the test's folder, so that tests run side by side."""
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "locks")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(tmp_path / "device"))
