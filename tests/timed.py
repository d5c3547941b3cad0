"""What `edgeq.device.job.bench` gives, with made-up numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.device.job import Pace, Setup
from edgeq.device.runners.agent.runtimes import runtime_version
from edgeq.measure.latency import latency_facts
from edgeq.measure.validity import doubts

__all__ = ["MACHINE", "not_timed", "quiet"]

MACHINE: dict[str, Any] = {
    "cpu": "Test",
    "parts": [],
    "architecture": "x86_64",
    "cores": 4,
    "big_cores": [0, 1, 2, 3],
    "flags": ["avx2"],
    "dot_product": False,
    "system": "Linux 6",
    "libc": "glibc 2.36",
    "python": "3.11.2",
    "bits": 64,
    "emulated": None,
}


def quiet(**changed: Any) -> dict[str, Any]:
    """A moment of a machine that does nothing else, with `changed` values."""
    return {
        "clock": 0.0,
        "own": 0.0,
        "busy": 0.0,
        "stolen": 0.0,
        "load": 0.1,
        "frequency_khz": {"0": 1_500_000},
        "governors": {"cpu0": "performance"},
        "temperature_c": 40.0,
        "throttled": None,
        "heat_events": 0,
        "affinity": [0],
    } | changed


def not_timed(model: Path, baseline: Path | None, setup: Setup, pace: Pace) -> dict[str, Any]:
    """As many pairs as asked for, of 2 ms and 1 ms, on a quiet machine; no file is opened."""
    samples = {"model": [1.0] * pace.least, "float": [2.0] * pace.least if baseline else []}
    before, after = quiet(), quiet(clock=1.0, own=1.0, busy=1.0)
    found = doubts(MACHINE, before, after, samples["float"], samples["model"])
    latency = latency_facts(samples["float"], samples["model"], inferences=1, threads=setup.threads, doubts=found)
    return {
        "latency": latency,
        "samples": samples,
        "doubts": found,
        "valid": not found,
        "before": before,
        "after": after,
        "machine": MACHINE,
        "runtime": runtime_version(setup.runtime),
        "kernels": setup.kernels,
        "threads": setup.threads,
        "affinity": [0],
        "ops": {},
        "peak_bytes": 1 << 20,
        "expect_no_gain": True,
    }
