"""One row of report.json's `devices`: what another machine is and what it said about the build's files."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.report.entries import SHORTEST, Entry, Field, Section

__all__ = ["DEVICE"]


def _moment(when: str) -> Section:
    return Section(
        f"the device right {when} the timed part",
        {
            "load": Field("number", "load average of the last minute", nullable=True, low=0),
            "frequency_mhz": Field("number", "mean clock of the cores used", nullable=True, low=0),
            "temperature_c": Field("number", "warmest sensor, degrees Celsius", nullable=True, low=-300),
            "governors": Field("list of texts", "clock governors of its cores, each once"),
            "throttled": Field("integer", "Raspberry Pi's `get_throttled` bits", nullable=True),
            "thermal_status": Field("integer", "Android's thermal status, 0 for none", nullable=True, optional=True),
            "battery_percent": Field("integer", "Android's battery", nullable=True, optional=True),
        },
    )


TIMES: Mapping[str, Entry] = {
    "ratio": Field(
        "number", "median of integer / float over pairs timed back to back; below 1 is faster", low=SHORTEST
    ),
    "ratio_interval": Field("list of numbers", "95 % interval of the median ratio, low and high", optional=True, low=0),
    "float_median_ms": Field("number", "milliseconds of one inference of the float file, median", low=SHORTEST),
    "integer_median_ms": Field("number", "the same of the integer file", low=SHORTEST),
    "p90_ms": Field("number", "integer file, 90th percentile; null on Android", nullable=True, low=SHORTEST),
    "float_p90_ms": Field("number", "float file, 90th percentile", optional=True, low=SHORTEST),
    "min_ms": Field("number", "integer file, shortest", optional=True, low=SHORTEST),
    "float_min_ms": Field("number", "float file, shortest", optional=True, low=SHORTEST),
    "spread": Field(
        "number", "integer file: middle half of the timings as a share of the median", optional=True, low=0
    ),
    "float_spread": Field("number", "float file: the same", optional=True, low=0),
    "runs": Field("integer", "timings of the integer file; where there is a float file, pairs", low=1),
    "inferences_per_run": Field("integer", "inferences per timing, more than 1 for short ones", optional=True, low=1),
    "threads": Field("integer", "threads of the runtime", optional=True, low=1),
    "valid": Field("yes/no", "whether these timings may be believed", optional=True),
    "reason": Field("text", "why not; null when valid", nullable=True, optional=True),
}
"""A latency, of the building machine and of a device alike."""

ACTIVITY: Mapping[str, Entry] = {
    "others": Field("number", "cores kept busy by other programs meanwhile, on average", nullable=True, low=0),
    "stolen": Field(
        "number", "share of the processor time that a hypervisor took", nullable=True, optional=True, low=0
    ),
    "processor_share": Field("number", "share of the time this process was on a processor", nullable=True, low=0),
}
"""What a machine did while it was measured."""

DEVICE: Mapping[str, Entry] = {
    "name": Field("text", "as `--device` names it"),
    "earlier": Field("yes/no", "present where an earlier build of the same file was measured there", optional=True),
    "machine": Section(
        "what it is",
        {
            "cpu": Field("text", "board or processor, as it calls itself"),
            "model": Field("text", "phone", optional=True),
            "architecture": Field("text", "such as aarch64"),
            "cores": Field("integer", "how many", nullable=True, low=1),
            "big_cores": Field(
                "list of numbers", "numbers of the fastest ones; empty where the system does not say", low=0
            ),
            "flags": Field("list of texts", "instruction sets that kernels choose between, those of them present"),
            "dot_product": Field("yes/no", "whether it sums 8-bit products in one instruction; else int8 may not win"),
            "system": Field("text", "operating system and version"),
            "libc": Field("text", "C library and version"),
            "python": Field("text", "version; null on Android", nullable=True),
            "emulated": Field("text", "the processor another one pretends to be; null where it is real", nullable=True),
        },
    ),
    "runtime": Field("text", "package and version that ran the file there"),
    "program_sha256": Field("text", "of `benchmark_model`; Android", optional=True),
    "kernels": Field("text", "kernels asked for"),
    "ops": Field(
        "table of integers", "what ran there, by the runtime's own names; empty where it does not tell", low=0
    ),
    "accuracy": Section(
        "the integer file there, beside the same file on the building machine; null without labelled images",
        {
            "metric": Field("text", "what `score` is: top-1, mIoU or mAP@0.5"),
            "n": Field("integer", "images", low=1),
            "score": Field("number", "the task's figure there, in percent", low=0, high=100),
            "host_score": Field("number", "the same on the building machine", low=0, high=100),
            "agreement": Field(
                "number", "share, 0 to 1, of images, pixels or boxes answered alike by both machines", low=0, high=1
            ),
            "host_runtime": Field("text", "what ran on the building machine"),
            "values": Field("integer", "output values compared", low=0),
            "equal": Field("number", "share of them equal", low=0, high=1),
            "max_difference": Field("number", "largest difference, in steps where outputs are integers", low=0),
            "integer": Field("yes/no", "whether outputs are integers"),
            "sha256": Field("text", "of pixels and labels"),
        },
        nullable=True,
    ),
    "latency": Section(
        "integer and float file timed there in turns; null where there are no times, as in an emulator",
        {**TIMES, "conditions": Section("what else happened meanwhile", ACTIVITY, optional=True)},
        nullable=True,
    ),
    "threads": Field("integer", "threads of the runtime while timed", low=1),
    "valid": Field("yes/no", "whether its timings may be believed; never in an emulator"),
    "doubts": Field("list of texts", "why not"),
    "notes": Field("list of texts", "what else a reader of the times should know"),
    "affinity": Field("list of numbers", "cores it was kept to; empty where that cannot be told", low=0),
    "peak_bytes": Field(
        "integer", "most memory the process held; null under QEMU, whose own would count", nullable=True, low=1
    ),
    "before": _moment("before"),
    "after": _moment("after"),
}
