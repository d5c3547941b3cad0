"""What every test has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.device import job, transport
from edgeq.threads import sleep_while_waiting
from tests.timed import not_timed

# Before anything imports torch, and for the programs that tests start: tests run side by side, and threads of several
# processes that wait for each other cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sleep_while_waiting(os.environ)


@pytest.fixture(autouse=True)
def quick_latency(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of tests time nothing, except beside the tests of devices, where they time little."""
    measured = job.bench_here if request.path.parent.name == "device" else not_timed
    few = job.Pace(least=3, most=3, seconds=0.02)
    monkeypatch.setattr(job, "bench_here", lambda model, baseline, setup: measured(model, baseline, setup, few))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests write need not outlast a power cut, and a disk takes milliseconds to promise that it does."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and pushed files of tests stay in the test's folder, so that tests run side by side."""
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "locks")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(tmp_path / "device"))
