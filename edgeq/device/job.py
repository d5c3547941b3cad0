"""What is asked of a device: what it is, what a file answers there, how long it takes there.

The runner that its transport names answers: the agent where there is Python, `benchmark_model` on Android.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeq.device.runners.base import Pace, Setup, runner_of
from edgeq.device.transport import ShellTransport
from edgeq.device.transports.local import LocalTransport
from edgeq.scratch import scratch

__all__ = ["Pace", "Setup", "bench", "bench_here", "can_run", "evaluate", "probe"]

PATIENCE = 3600.0
"""Seconds that a build waits until other builds on this machine have been timed."""


def probe(device: ShellTransport, *, timeout: float = 300.0, program: Path | None = None) -> dict[str, Any]:
    """What is on the device. Raises `DeviceError`, with the line that helps when there is no Python."""
    return runner_of(device).probe(program=program, timeout=timeout)


def can_run(device: ShellTransport, setup: Setup) -> None:
    """Raises `DeviceError` when files are not run like this on such a device, before anything is pushed."""
    runner_of(device).check(setup)


def evaluate(
    device: ShellTransport,
    model: Path,
    batch: npt.NDArray[Any],
    setup: Setup,
    *,
    timeout: float = 3600.0,
    expected: Sequence[npt.NDArray[Any]] | None = None,
) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
    """Raw outputs ``(N, ...)`` of `model` for `batch`, samples in the type and layout the file takes; and the facts.

    `expected` are arrays of the types and shapes that must come. Raises `DeviceError`.
    """
    runner = runner_of(device)
    runner.check(setup)
    return runner.evaluate(model, batch, setup, timeout=timeout, expected=expected)


def bench(
    device: ShellTransport, model: Path, baseline: Path | None, setup: Setup, pace: Pace | None = None
) -> dict[str, Any]:
    """Time `model`, in turns with `baseline` when there is one. This machine is the device ``local``.

    Returns `latency` (milliseconds, see `edgeq.measure.latency.latency_facts`), `valid` and the `doubts`, and the
    conditions: `machine`, what it did right `before` and `after`, `runtime`, `kernels`, `threads`, `affinity`, `ops`,
    `peak_bytes`, and `energy` (see `edgeq.measure.energy`) where the board was asked for it. An emulated device gives
    no times at all, nor memory, which would be its emulator's too: `latency` and `peak_bytes` are None.

    Raises `DeviceError`.
    """
    runner = runner_of(device)
    runner.check(setup)
    return _with_hold(device, runner.bench(model, baseline, setup, pace or Pace()))


def _with_hold(device: ShellTransport, facts: dict[str, Any]) -> dict[str, Any]:
    """`facts` of a timing, doubted where others may have used the device meanwhile."""
    reasons, notes = device.held.doubts(), device.held.notes()
    if notes:
        facts["notes"] = [*facts.get("notes", ()), *notes]
    if reasons:
        facts["doubts"], facts["valid"] = [*facts["doubts"], *reasons], False
        if facts["latency"] is not None:
            facts["latency"] |= {"valid": False, "reason": "; ".join(facts["doubts"])}
    return facts


def bench_here(model: Path, baseline: Path | None, setup: Setup, pace: Pace | None = None) -> dict[str, Any]:
    """`bench` on this machine, which needs no folder of edgeq's for it. Raises `DeviceError`."""
    with scratch() as folder, LocalTransport(patience=PATIENCE, folder=folder) as device:
        return bench(device, model, baseline, setup, replace(pace or Pace(), energy=0.0))
