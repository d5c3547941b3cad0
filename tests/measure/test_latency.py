"""Latency with a clock of our own: what is timed, in which order, and when it must not be believed."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeq.errors import MeasurementError
from edgeq.formats.session import Session
from edgeq.measure.conditions import Machine, Moment
from edgeq.measure.latency import ENOUGH_RUNS, MOST_RUNS, Latency, measure_latency

SAMPLE = np.zeros((1, 3, 4, 4), np.float32)
MACHINE = Machine("Test", "x86_64", 4, ("avx2",), None, "Linux 6", "3.11", False, None, False)
QUIET = Moment(0.0, 0.0, 0.1, 1500.0, 40.0, 0.0, 0.0, 0)


class Clock:
    """Nanoseconds that pass only when a session runs."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Fake(Session):
    """An inference takes the next of `costs` milliseconds; `log` hears who ran."""

    kernels = "none"

    def __init__(self, name: str, clock: Clock, costs: Iterator[float], log: list[str], threads: int = 1) -> None:
        self.runtime, self.clock, self.costs, self.log, self.threads = name, clock, costs, log, threads
        self.prepared: list[npt.NDArray[np.float32]] = []

    def run(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        raise NotImplementedError

    def run_integers(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        raise NotImplementedError

    def prepare(self, sample: npt.NDArray[np.float32]) -> None:
        self.prepared.append(sample)

    def invoke(self) -> None:
        self.clock.now += round(next(self.costs) * 1e6)
        self.log.append(self.runtime)


def steady(cost: float) -> Iterator[float]:
    while True:
        yield cost


def moments(clock: Clock, **end: float) -> Callable[[], Moment]:
    """A quiet machine at the first call; at the second, all of the time on the processor, and `end` besides."""
    first: list[int] = []

    def moment() -> Moment:
        if not first:
            first.append(clock.now)
            return QUIET
        wall = (clock.now - first[0]) / 1e9
        return dataclasses.replace(QUIET, **({"seconds": wall, "own": wall, "busy": wall} | end))

    return moment


def measured(
    float_costs: Iterator[float], integer_costs: Iterator[float], machine: Machine = MACHINE, **options: Any
) -> tuple[Latency, list[str]]:
    clock, log = Clock(), []
    sessions = Fake("float", clock, float_costs, log), Fake("integer", clock, integer_costs, log)
    end = options.pop("end", {})
    result = measure_latency(*sessions, SAMPLE, clock=clock, moment=moments(clock, **end), machine=machine, **options)
    assert all(len(session.prepared) == 1 for session in sessions)
    return result, log


def test_a_quiet_machine_gives_a_valid_ratio() -> None:
    result, _ = measured(steady(20.0), steady(10.0))
    assert (result.ratio, result.valid, result.doubts) == (0.5, True, ())
    assert result.runs == 134  # the first after 4 seconds of 30 ms pairs
    section = result.to_json()
    assert (section["float_median_ms"], section["integer_median_ms"], section["p90_ms"]) == (20.0, 10.0, 10.0)
    assert section["conditions"]["runtime"] == "float (float), integer (integer)"
    assert json.loads(json.dumps(section)) == section


def test_they_take_turns_and_who_is_first_alternates() -> None:
    _, log = measured(steady(100.0), steady(100.0), warmup=0.0)
    timed = log[6:]  # after three warm-up runs each
    assert log[:6] == ["float"] * 3 + ["integer"] * 3
    assert timed[:8] == ["float", "integer", "integer", "float"] * 2
    assert len(timed) == 2 * ENOUGH_RUNS  # the floor, although 50 pairs take 10 s


def test_short_inferences_are_repeated_and_pairs_are_bounded() -> None:
    result, _ = measured(steady(0.02), steady(0.01))
    assert result.inferences == 200
    assert result.runs == MOST_RUNS
    assert result.integer_ms[0] == pytest.approx(0.01)


def test_drift_common_to_both_leaves_the_ratio() -> None:
    def slowing(start: float) -> Iterator[float]:
        cost = start
        while True:
            yield cost
            cost *= 1.004

    result, _ = measured(slowing(20.0), slowing(15.0), warmup=0.0)
    assert result.ratio == pytest.approx(0.75, rel=0.01)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ({"busy": 900.0}, "other work kept"),
        ({"steal": 99.0}, "hypervisor took"),
        ({"own": 0.1}, "kept off the processor"),
        ({"frequency_mhz": 900.0}, "clock went from 1500 to 900 MHz"),
        ({"throttled": 1}, "for heat"),
    ],
)
def test_disturbances_are_named(end: dict[str, float], why: str) -> None:
    result, _ = measured(steady(20.0), steady(10.0), end=end)
    assert not result.valid
    assert why in str(result.to_json()["reason"])
    assert len(result.doubts) == 1


def test_emulation_and_too_few_runs() -> None:
    result, _ = measured(steady(9.0), steady(8.0), dataclasses.replace(MACHINE, emulated=True), runs=9, seconds=0.0)
    assert result.runs == 9
    assert [why in "; ".join(result.doubts) for why in ("emulated", "9 runs are too few")] == [True, True]


def test_wide_spread_is_not_believed() -> None:
    rng = np.random.default_rng(0)
    noise = iter(rng.lognormal(2.0, 1.0, 10_000).tolist())
    result, _ = measured(steady(10.0), noise, warmup=0.0)
    assert any("integer timings spread" in doubt for doubt in result.doubts)
    assert any("only known to lie between" in doubt for doubt in result.doubts)
    assert not any("float timings" in doubt for doubt in result.doubts)


def test_stragglers_do_not_spoil_a_measurement() -> None:
    costs = (30.0 if i % 20 == 0 else 10.0 for i in range(10_000))
    result, _ = measured(steady(10.0), costs, warmup=0.0)
    assert result.valid
    assert result.ratio == 1.0


def test_load_average_stands_in_where_nothing_else_is_readable() -> None:
    result, _ = measured(steady(20.0), steady(10.0), end={})
    blind = dataclasses.replace(result.before, busy=None, steal=None, load=999.0)
    clock = Clock()
    sessions = [Fake("same", clock, steady(10.0), []) for _ in range(2)]
    ends = iter([blind, dataclasses.replace(blind, seconds=1.0, own=1.0)])
    result = measure_latency(*sessions, SAMPLE, clock=clock, moment=lambda: next(ends), machine=MACHINE)
    assert [doubt.startswith("the load average was 999.0") for doubt in result.doubts] == [True]
    assert result.runtime == "same"


def test_different_threads_cannot_be_compared() -> None:
    clock = Clock()
    sessions = [Fake("x", clock, steady(1.0), [], threads) for threads in (1, 2)]
    with pytest.raises(MeasurementError, match="1 threads against 2"):
        measure_latency(*sessions, SAMPLE, clock=clock)


def test_a_real_clock_and_machine() -> None:
    class Busy(Fake):
        def invoke(self) -> None:
            np.ones(20_000).cumsum()

    sessions = [Busy("numpy", Clock(), steady(0.0), []) for _ in range(2)]
    assert gc.isenabled()
    result = measure_latency(*sessions, SAMPLE, seconds=0.3, warmup=0.01)
    assert gc.isenabled()
    assert result.runs >= ENOUGH_RUNS
    assert min(result.integer_ms) > 0
    assert json.dumps(result.to_json())
