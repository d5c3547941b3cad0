"""When a timing must not be believed: one set of limits for every machine, whoever took the time there.

What a machine did between two moments is read from facts as the agent gives them
(`edgeq.device.runners.agent.machine`): `clock`, `own`, `busy` and `stolen` in seconds, `frequency_khz` by core number.
What a machine does not tell is None, or missing, and gives no doubt.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.measure.statistics import median_interval, percentile

__all__ = ["ENOUGH_RUNS", "MOST_CLOCK_CHANGE", "activity", "clocks", "disturbances", "doubts", "spread"]

ENOUGH_RUNS = 50
"""Pairs of timings below which no percentile is worth printing."""

# Beyond these a measurement is not to be believed. Each is a share of what it is named after.
MOST_SPREAD = 0.5  # of a file's middle half of timings around their median
MOST_DOUBT = 0.1  # width of the interval of the median ratio
LEAST_PROCESSOR = 0.9  # of the time, on a processor
MOST_STOLEN = 0.02  # of the time of all cores, taken by a hypervisor
MOST_OTHERS = 0.25  # of the machine's cores, busy with something else
MOST_CLOCK_CHANGE = 0.1

THROTTLED_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `vcgencmd get_throttled`, from the manual of Raspberry Pi's firmware: now, and 16 higher since it started."""

SINCE_START = 16

Facts = Mapping[str, Any]


def doubts(
    machine: Facts,
    before: Facts,
    after: Facts,
    float_ms: Sequence[float],
    integer_ms: Sequence[float],
    *,
    runs: int | None = None,
    working: float | None = None,
) -> list[str]:
    """Every reason not to believe these timings, a sentence each; none where they may be believed.

    `float_ms` is empty where a file was timed alone, else its timings and those of `integer_ms` are pairs. `runs` says
    how many timings there were where those given are already medians of several, and `working` how many seconds the
    runtime should have been on a processor where that is not all of the time.
    """
    if machine["emulated"]:
        return ["emulated: its integers and accuracy are valid, its times are not"]
    reasons: list[str] = []
    runs = len(integer_ms) if runs is None else runs
    if runs < ENOUGH_RUNS:
        reasons.append(f"{runs} runs are too few, {ENOUGH_RUNS} are needed")
    for name, values in (("float", float_ms), ("integer", integer_ms)):
        if values and spread(values) > MOST_SPREAD:
            reasons.append(f"{name} timings spread by {spread(values):.0%} of their median")
    if float_ms:
        ratios = [i / f for f, i in zip(float_ms, integer_ms, strict=True)]
        low, high = median_interval(ratios)
        if (high - low) / statistics.median(ratios) > MOST_DOUBT:
            reasons.append(f"the ratio is only known to lie between {low:.2f} and {high:.2f}")
    share = _share(before, after, working)
    if share is not None and share < LEAST_PROCESSOR:
        reasons.append(f"the process was kept off the processor {1 - share:.0%} of the time")
    return reasons + disturbances(before, after, machine["cores"])


def disturbances(before: Facts, after: Facts, cores: int | None) -> list[str]:
    """What else a machine of `cores` was doing, or had done to it, between two moments: a sentence each."""
    reasons: list[str] = []
    cores = cores or 1
    seen = activity(before, after, cores)
    if seen["others"] is not None and seen["others"] > MOST_OTHERS * cores:
        reasons.append(f"other programs kept {seen['others']:.1f} of {cores} cores busy")
    if seen["others"] is None and before["load"] is not None and before["load"] > cores:
        reasons.append(f"the load average was {before['load']:.1f} on {cores} cores")
    if seen["stolen"] is not None and seen["stolen"] > MOST_STOLEN:
        reasons.append(f"the hypervisor took {seen['stolen']:.0%} of the processor time")
    if before["governors"] != after["governors"]:
        reasons.append("the governor changed")
    if change := _clock_change(clocks(before), clocks(after)):
        reasons.append(change)
    then, now = before["throttled"] or 0, after["throttled"] or 0
    bits = then | now | ((now & ~then) >> SINCE_START)
    if names := [name for bit, name in THROTTLED_BITS.items() if bits >> bit & 1]:
        reasons.append("the board reports " + ", ".join(names))
    if (after.get("heat_events") or 0) > (before.get("heat_events") or 0):
        reasons.append("the processor slowed itself down for heat")
    return reasons


def activity(before: Facts, after: Facts, cores: int | None) -> dict[str, float | None]:
    """What happened between two moments: `others` is how many cores other programs kept busy on average, `stolen` the
    share of all cores' time that a hypervisor took, `processor_share` that of the time this process was on a
    processor (several threads can make it more than 1). None where it cannot be read.
    """
    wall = after["clock"] - before["clock"]
    shares: dict[str, float | None] = {"others": None, "stolen": None, "processor_share": None}
    if wall <= 0:  # a clock that was set back says nothing
        return shares
    shares["processor_share"] = _share(before, after, None)
    if before["busy"] is not None and after["busy"] is not None:
        shares["others"] = max(0.0, (after["busy"] - before["busy"] - (after["own"] - before["own"])) / wall)
    if before.get("stolen") is not None and after.get("stolen") is not None:
        shares["stolen"] = max(0.0, (after["stolen"] - before["stolen"]) / wall / (cores or 1))
    return shares


def clocks(moment: Facts) -> dict[int, float]:
    """MHz of the cores that were used, by number; of all cores where it is not known which were used."""
    known = {int(core): khz / 1000 for core, khz in moment["frequency_khz"].items()}
    return {core: mhz for core, mhz in known.items() if core in moment["affinity"]} or known


def spread(values: Sequence[float]) -> float:
    """The middle half of the timings, as a share of their median: a few stragglers do not count."""
    return (percentile(values, 0.75) - percentile(values, 0.25)) / statistics.median(values)


def _share(before: Facts, after: Facts, working: float | None) -> float | None:
    """Share of the seconds `working`, or of all between the moments, that the process was on a processor."""
    seconds = after["clock"] - before["clock"] if working is None else working
    return max(0.0, (after["own"] - before["own"]) / seconds) if seconds > 0 else None


def _clock_change(before: Mapping[int, float], after: Mapping[int, float]) -> str:
    """How the clock changed, where the mean changed too much or that of any core fell too far; else nothing."""
    cores = before.keys() & after.keys()
    if not cores:
        return ""
    then, now = (statistics.fmean(values[core] for core in cores) for values in (before, after))
    if then and abs(now / then - 1) > MOST_CLOCK_CHANGE:
        return f"the clock went from {then:.0f} to {now:.0f} MHz"
    fallen = [core for core in sorted(cores) if after[core] < (1 - MOST_CLOCK_CHANGE) * before[core]]
    if fallen:
        return f"the clock of core {fallen[0]} went from {before[fallen[0]]:.0f} to {after[fallen[0]]:.0f} MHz"
    return ""
