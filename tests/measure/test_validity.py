"""When timings must not be believed, and what a report says of them, with made-up timings and machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.measure.latency import latency_facts, latency_text, moment_facts
from edgeq.measure.validity import ENOUGH_RUNS, activity, doubts
from tests.timed import MACHINE, quiet

STEADY = [2.0] * ENOUGH_RUNS
QUICK = [1.0] * ENOUGH_RUNS


def judged(before: dict[str, Any], after: dict[str, Any], **options: Any) -> list[str]:
    """Doubts about steady timings of ten seconds, all of them on the processor."""
    end = {"clock": 10.0, "own": 10.0, "busy": 10.0} | after
    return doubts(MACHINE, quiet(**before), quiet(**end), STEADY, QUICK, **options)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {}, ""),
        ({}, {"busy": 21.0}, "other programs kept 1.1 of 4 cores busy"),
        ({}, {"busy": 19.0}, ""),
        ({"busy": None, "load": 9.0}, {}, "the load average was 9.0 on 4 cores"),
        ({}, {"stolen": 0.9}, "the hypervisor took 2% of the processor time"),
        ({}, {"stolen": 0.7}, ""),
        ({"stolen": None}, {"stolen": 99.0}, ""),
        ({}, {"own": 8.9}, "kept off the processor 11% of the time"),
        ({}, {"governors": {"cpu0": "powersave"}}, "the governor changed"),
        ({}, {"frequency_khz": {"0": 900_000}}, "the clock went from 1500 to 900 MHz"),
        ({}, {"frequency_khz": {"0": 1_900_000}}, "the clock went from 1500 to 1900 MHz"),
        ({}, {"frequency_khz": {"0": 1_400_000, "3": 9}}, ""),  # core 3 was not used
        (
            {"frequency_khz": {"0": 2000, "1": 2_000_000}, "affinity": [0, 1]},
            {"frequency_khz": {"0": 1000, "1": 2_000_000}, "affinity": [0, 1]},
            "the clock of core 0 went from 2 to 1 MHz",
        ),
        ({}, {"throttled": 0x1}, "the board reports under-voltage"),
        ({}, {"throttled": 0x40000}, "the board reports throttled"),
        ({"throttled": 0x50000}, {"throttled": 0x50000}, ""),  # happened before, since the board started
        ({"heat_events": 3}, {"heat_events": 3}, ""),
        ({"heat_events": 3}, {"heat_events": 4}, "slowed itself down for heat"),
        ({}, {"clock": -5.0}, ""),  # a clock that was set back says nothing
    ],
)
def test_what_the_machine_did_is_named(before: dict[str, Any], after: dict[str, Any], says: str) -> None:
    found = judged(before, after)
    assert len(found) == (1 if says else 0), found
    assert says in "".join(found)


def test_an_emulated_processor_is_the_only_reason_given() -> None:
    found = doubts(MACHINE | {"emulated": "cortex-a72"}, quiet(), quiet(), [1.0], [9.0])
    assert found == ["emulated: its integers and accuracy are valid, its times are not"]


def test_too_few_runs_where_pairs_are_medians_of_several_or_not() -> None:
    end = quiet(clock=1.0, own=1.0)
    few = doubts(MACHINE, quiet(), end, STEADY[:-1], QUICK[:-1])
    assert few == ["49 runs are too few, 50 are needed"]
    assert doubts(MACHINE, quiet(), end, STEADY[:6], QUICK[:6], runs=50) == []
    assert doubts(MACHINE, quiet(), end, [], QUICK) == []  # a file alone


def test_a_runner_that_need_not_work_all_of_the_time() -> None:
    assert "kept off the processor 80%" in judged({}, {"own": 2.0})[0]
    assert judged({}, {"own": 2.0, "busy": 2.0}, working=2.1) == []


def test_a_wide_spread_makes_the_ratio_uncertain_too() -> None:
    noise = np.random.default_rng(0).lognormal(2.0, 1.0, 200).tolist()
    found = doubts(MACHINE, quiet(), quiet(clock=1.0, own=1.0), [10.0] * 200, noise)
    assert any(doubt.startswith("integer timings spread by") for doubt in found)
    assert any(doubt.startswith("the ratio is only known to lie between") for doubt in found)
    assert not any("float timings" in doubt for doubt in found)


def test_stragglers_do_not_spoil_a_measurement() -> None:
    own = [30.0 if i % 20 == 0 else 10.0 for i in range(200)]
    assert doubts(MACHINE, quiet(), quiet(clock=1.0, own=1.0), [10.0] * 200, own) == []
    assert latency_facts([10.0] * 200, own, inferences=1, threads=1, doubts=())["ratio"] == 1.0


def test_drift_common_to_both_leaves_the_ratio() -> None:
    base = [20.0 * 1.004**i for i in range(100)]
    found = latency_facts(base, [0.75 * value for value in base], inferences=1, threads=1, doubts=())
    assert found["ratio"] == pytest.approx(0.75)
    assert found["ratio_interval"] == pytest.approx([0.75, 0.75])


def test_activity_of_what_cannot_be_read_is_unknown() -> None:
    assert activity(quiet(busy=None, stolen=None), quiet(clock=2.0, own=1.0), 4) == {
        "others": None,
        "stolen": None,
        "processor_share": 0.5,
    }
    assert set(activity(quiet(clock=2.0), quiet(clock=1.0), 4).values()) == {None}


def test_one_schema_and_one_line() -> None:
    both = latency_facts(STEADY, QUICK, inferences=3, threads=2, doubts=())
    alone = latency_facts([], QUICK, inferences=3, threads=2, doubts=["a", "b"])
    assert (both["ratio"], both["float_p90_ms"], both["runs"], both["reason"]) == (0.5, 2.0, ENOUGH_RUNS, None)
    assert (alone["valid"], alone["reason"]) == (False, "a; b")
    assert both.keys() - alone.keys() == {
        "ratio",
        "ratio_interval",
        "float_median_ms",
        "float_p90_ms",
        "float_min_ms",
        "float_spread",
    }
    assert latency_text(both) == "1.00 ms, float 2.00 ms (ratio 0.50), p90 1.00 ms, 2 thread(s)"
    assert latency_text(alone | {"p90_ms": None}) == "1.00 ms, 2 thread(s)"


def test_a_moment_in_a_report_has_the_clock_of_the_cores_used() -> None:
    moment = quiet(frequency_khz={"0": 1_500_000, "1": 600_000}, affinity=[1])
    assert moment_facts(moment)["frequency_mhz"] == 600.0
    assert moment_facts(moment | {"affinity": []})["frequency_mhz"] == 1050.0
    assert moment_facts(moment | {"frequency_khz": {}})["frequency_mhz"] is None
