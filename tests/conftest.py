"""What every test has."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from pathlib import Path

import pytest

from edgeq.device import job, transport
from edgeq.threads import sleep_while_waiting
from tests.timed import not_timed

# Before anything imports torch, and for the programs that tests start: tests run side by side, and threads of several
# processes that wait for each other cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sleep_while_waiting(os.environ)

# Programs that tests start compile edgeq once, not each time, and pytest its tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


PLACES = itertools.count()


def pytest_collection_finish() -> None:
    """Python looks through a million objects of torch for garbage every few tests: a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def quick_latency(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of tests time nothing, except beside the tests of devices, where they time little."""
    measured = job.bench_here if request.path.parent.name == "device" else not_timed
    few = job.Pace(least=3, most=3, seconds=0.02)
    monkeypatch.setattr(job, "bench_here", lambda model, baseline, setup: measured(model, baseline, setup, few))


@pytest.fixture(autouse=True)
def one_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds capture a network that another test has built once alone."""
    from edgeq.pipeline import prepare  # not above: this process may be the one that only hands out tests
    from tests.captured import captured_once

    monkeypatch.setattr(prepare, "capture", captured_once)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests write need not outlast a power cut, and a disk takes milliseconds to promise that it does."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks and pushed files of a test stay in a folder of its own, which is made when one of them is."""
    folder = tmp_path_factory.getbasetemp() / f"cache{next(PLACES)}"
    monkeypatch.setattr(transport, "cache_folder", lambda: folder / "locks")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(folder / "device"))
    monkeypatch.setenv("EDGEQ_BOARD_LOCK", str(folder) + "-board")
    return folder
