"""How long the integer file takes beside the float one, on the same runtime, at the same moment.

The two are timed in turns, so that what slows the machine slows both: the ratio of each pair is the result, their
milliseconds are context. A measurement says itself whether it may be believed, and why not.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import MeasurementError
from edgeq.formats.session import Session
from edgeq.measure.conditions import Machine, Moment, this_machine
from edgeq.measure.statistics import median_interval, percentile

__all__ = ["ENOUGH_RUNS", "Latency", "measure_latency"]

ENOUGH_RUNS = 50
"""Pairs below which no percentile is worth printing."""

MOST_RUNS = 400
"""Pairs beyond which fast networks learn nothing more."""

SAMPLE_SECONDS = 0.002
"""Short inferences are repeated until a sample lasts this long: neither the clock nor the call should show in it."""

WARM_UP_SECONDS = 0.2

# Beyond these a measurement is not to be believed. Each is a share of what it is named after.
MOST_SPREAD = 0.5  # of a network's middle half of timings around their median
MOST_DOUBT = 0.1  # width of the interval of the median ratio
LEAST_PROCESSOR = 0.9  # of the time, on the processor
MOST_STOLEN = 0.02  # of the time, taken by a hypervisor
MOST_OTHERS = 0.25  # of the machine's cores, busy with something else
MOST_CLOCK_CHANGE = 0.1


@dataclass(frozen=True)
class Latency:
    """Paired timings in milliseconds per inference; `float_ms[i]` and `integer_ms[i]` were taken one after the other.

    `inferences` were run per timing. `before` and `after` are moments around the timed part; `doubts` are the reasons
    not to believe it, one sentence each, empty when there are none.
    """

    float_ms: tuple[float, ...]
    integer_ms: tuple[float, ...]
    inferences: int
    threads: int
    runtime: str
    kernels: str
    machine: Machine
    before: Moment
    after: Moment
    doubts: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        return len(self.integer_ms)

    @property
    def ratios(self) -> list[float]:
        """Integer ÷ float, pair by pair: below 1 the integer file is faster."""
        return [i / f for f, i in zip(self.float_ms, self.integer_ms, strict=True)]

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def valid(self) -> bool:
        return not self.doubts

    def to_json(self) -> dict[str, Any]:
        """The `latency` section of a report."""
        return {
            "ratio": self.ratio,
            "ratio_interval": list(median_interval(self.ratios)),
            "float_median_ms": statistics.median(self.float_ms),
            "integer_median_ms": statistics.median(self.integer_ms),
            "p90_ms": percentile(self.integer_ms, 0.9),
            "float_p90_ms": percentile(self.float_ms, 0.9),
            "min_ms": min(self.integer_ms),
            "float_min_ms": min(self.float_ms),
            "spread": _spread(self.integer_ms),
            "float_spread": _spread(self.float_ms),
            "runs": self.runs,
            "inferences_per_run": self.inferences,
            "threads": self.threads,
            "valid": self.valid,
            "reason": "; ".join(self.doubts) or None,
            "conditions": self.machine.to_json()
            | {"runtime": self.runtime, "kernels": self.kernels}
            | {"before": _shown(self.before), "after": _shown(self.after)}
            | {"others": _others(self.before, self.after), "processor_share": _share(self.before, self.after)},
            "samples": {
                "float_ms": [round(v, 5) for v in self.float_ms],
                "integer_ms": [round(v, 5) for v in self.integer_ms],
            },
        }


def measure_latency(
    float_session: Session,
    integer_session: Session,
    sample: npt.NDArray[np.float32],
    *,
    runs: int = ENOUGH_RUNS,
    seconds: float = 4.0,
    warmup: float = WARM_UP_SECONDS,
    clock: Callable[[], int] = time.perf_counter_ns,
    moment: Callable[[], Moment] = Moment.now,
    machine: Machine | None = None,
) -> Latency:
    """Time both sessions on one image `sample` ``(1, C, H, W)``, in turns.

    At least `runs` pairs, more while they fit into about `seconds`; each session first runs for `warmup` seconds (three
    times at least). Which goes first changes from pair to pair. `clock` counts nanoseconds and never goes back.
    Raises `MeasurementError` when the sessions' threads differ.
    """
    if float_session.threads != integer_session.threads:
        raise MeasurementError(
            "latencies cannot be compared", why=f"{float_session.threads} threads against {integer_session.threads}"
        )
    sessions = (float_session, integer_session)
    for session in sessions:
        session.prepare(sample)
    quickest = min(_warm(session, warmup, clock) for session in sessions)
    inferences = max(1, round(SAMPLE_SECONDS / quickest))
    times: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = moment()
        start = clock()
        for pair in range(max(runs, MOST_RUNS)):
            if pair >= runs and clock() - start > seconds * 1e9:
                break
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                times[which].append(_timed(sessions[which], inferences, clock))
        after = moment()
    finally:
        if collecting:
            gc.enable()
    latency = Latency(
        float_ms=tuple(times[0]),
        integer_ms=tuple(times[1]),
        inferences=inferences,
        threads=integer_session.threads,
        runtime=_both(float_session.runtime, integer_session.runtime),
        kernels=_both(float_session.kernels, integer_session.kernels),
        machine=machine or this_machine(),
        before=before,
        after=after,
    )
    return dataclasses.replace(latency, doubts=tuple(_doubts(latency)))


def _warm(session: Session, seconds: float, clock: Callable[[], int]) -> float:
    """Run until caches, clocks and lazy set-up have settled; the median seconds of one inference."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        taken.append(_timed(session, 1, clock) / 1e3)
    return max(statistics.median(taken), 1e-7)


def _timed(session: Session, inferences: int, clock: Callable[[], int]) -> float:
    """Milliseconds of one inference, the mean of `inferences` in a row."""
    start = clock()
    for _ in range(inferences):
        session.invoke()
    return (clock() - start) / inferences / 1e6


def _doubts(latency: Latency) -> list[str]:
    """Every reason not to believe these timings."""
    found: list[str] = []
    before, after, machine = latency.before, latency.after, latency.machine
    if machine.emulated:
        found.append("the processor is emulated, its time is not a device's")
    if latency.runs < ENOUGH_RUNS:
        found.append(f"{latency.runs} runs are too few, {ENOUGH_RUNS} are needed")
    for name, values in (("float", latency.float_ms), ("integer", latency.integer_ms)):
        if _spread(values) > MOST_SPREAD:
            found.append(f"{name} timings spread by {_spread(values):.0%} of their median")
    low, high = median_interval(latency.ratios)
    if (high - low) / latency.ratio > MOST_DOUBT:
        found.append(f"the ratio is only known to lie between {low:.2f} and {high:.2f}")
    if _share(before, after) < LEAST_PROCESSOR:
        found.append(f"the process was kept off the processor {1 - _share(before, after):.0%} of the time")
    found += _disturbances(before, after, machine)
    return found


def _disturbances(before: Moment, after: Moment, machine: Machine) -> list[str]:
    """What else the machine was doing, or had done to it."""
    found: list[str] = []
    wall = max(after.seconds - before.seconds, 1e-9)
    cores = max(machine.cores, os.cpu_count() or 1)
    others = _others(before, after)
    if others is not None and others > MOST_OTHERS * cores:
        found.append(f"other work kept {others:.1f} of {cores} cores busy")
    if others is None and before.load is not None and before.load > cores:
        found.append(f"the load average was {before.load:.1f} on {cores} cores")
    if before.steal is not None and after.steal is not None and after.steal - before.steal > MOST_STOLEN * wall * cores:
        found.append(f"the hypervisor took {(after.steal - before.steal) / wall / cores:.0%} of the processor time")
    if before.frequency_mhz and after.frequency_mhz:
        change = after.frequency_mhz / before.frequency_mhz - 1
        if abs(change) > MOST_CLOCK_CHANGE:
            found.append(f"the clock went from {before.frequency_mhz:.0f} to {after.frequency_mhz:.0f} MHz")
    if before.throttled is not None and after.throttled is not None and after.throttled > before.throttled:
        found.append("the processor slowed itself down for heat")
    return found


def _others(before: Moment, after: Moment) -> float | None:
    """Cores that something other than this process kept busy, on average; None where that cannot be read."""
    if before.busy is None or after.busy is None:
        return None
    wall = max(after.seconds - before.seconds, 1e-9)
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / wall)


def _share(before: Moment, after: Moment) -> float:
    """Share of the time that this process was on a processor; several threads can make it more than 1."""
    return (after.own - before.own) / max(after.seconds - before.seconds, 1e-9)


def _spread(values: Sequence[float]) -> float:
    """The middle half of the timings, as a share of their median: a few stragglers do not count."""
    return (percentile(values, 0.75) - percentile(values, 0.25)) / statistics.median(values)


def _shown(moment: Moment) -> dict[str, Any]:
    return {name: getattr(moment, name) for name in ("load", "frequency_mhz", "temperature_c")}


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} (float), {other} (integer)"
