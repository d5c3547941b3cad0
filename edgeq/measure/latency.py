"""How long the integer file takes beside the float one, on the same runtime, at the same moment: the one schema.

The two are timed in turns by the runner of a device (`edgeq.device.job.bench`; this machine is the device ``local``),
so what slows the machine slows both: the ratio of each pair is the result, their milliseconds are context.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.measure.conditions import Machine
from edgeq.measure.statistics import median_interval, percentile
from edgeq.measure.validity import activity, clocks, spread

__all__ = ["host_section", "latency_facts", "latency_text", "moment_facts"]

Facts = Mapping[str, Any]


def latency_facts(
    float_ms: Sequence[float], integer_ms: Sequence[float], *, inferences: int, threads: int, doubts: Sequence[str]
) -> dict[str, Any]:
    """The keys of every latency in a report, out of timings in milliseconds of one inference.

    `float_ms` and `integer_ms` are pairs; without `float_ms` the keys about the float file and the ratio are left out.
    `inferences` were run per timing, and `doubts` are the reasons not to believe the times.
    """
    facts: dict[str, Any] = {
        "integer_median_ms": statistics.median(integer_ms),
        "p90_ms": percentile(integer_ms, 0.9),
        "min_ms": min(integer_ms),
        "spread": spread(integer_ms),
        "runs": len(integer_ms),
        "inferences_per_run": inferences,
        "threads": threads,
        "valid": not doubts,
        "reason": "; ".join(doubts) or None,
    }
    if not float_ms:
        return facts
    ratios = [i / f for f, i in zip(float_ms, integer_ms, strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "ratio_interval": list(median_interval(ratios)),
        "float_median_ms": statistics.median(float_ms),
        "float_p90_ms": percentile(float_ms, 0.9),
        "float_min_ms": min(float_ms),
        "float_spread": spread(float_ms),
    } | facts


def latency_text(latency: Facts) -> str:
    """A latency in one line."""
    text = f"{latency['integer_median_ms']:.2f} ms"
    if latency.get("float_median_ms") is not None:
        text += f", float {latency['float_median_ms']:.2f} ms (ratio {latency['ratio']:.2f})"
    if latency.get("p90_ms") is not None:
        text += f", p90 {latency['p90_ms']:.2f} ms"
    return text + (f", {latency['threads']} thread(s)" if latency.get("threads") else "")


def moment_facts(moment: Facts) -> dict[str, Any]:
    """What a report keeps of a moment on a device."""
    used = clocks(moment)
    facts = {
        "load": moment["load"],
        "frequency_mhz": statistics.fmean(used.values()) if used else None,
        "temperature_c": moment["temperature_c"],
        "governors": sorted({str(name) for name in moment["governors"].values() if name}),
        "throttled": moment["throttled"],
    }
    if "thermal_status" in moment:
        facts |= {"thermal_status": moment["thermal_status"], "battery_percent": moment["battery"]["percent"]}
    return facts


def host_section(timed: Facts, machine: Machine) -> dict[str, Any]:
    """The `latency` section of a build's report: what `edgeq.device.job.bench` gave for this machine, conditions and
    all timings included."""
    before, after = timed["before"], timed["after"]
    kept = ("load", "frequency_mhz", "temperature_c")
    moments = {when: {key: moment_facts(timed[when])[key] for key in kept} for when in ("before", "after")}
    return {
        **timed["latency"],
        "conditions": machine.to_json()
        | {"runtime": timed["runtime"], "kernels": timed["kernels"]}
        | moments
        | activity(before, after, timed["machine"]["cores"]),
        "samples": {
            "float_ms": [round(value, 5) for value in timed["samples"]["float"]],
            "integer_ms": [round(value, 5) for value in timed["samples"]["model"]],
        },
    }
