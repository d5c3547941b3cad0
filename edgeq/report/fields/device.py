"""Another machine that ran the files of a build."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET

from edgeq.report.fields.machine import Times
from edgeq.report.fields.types import (
    Amount,
    Celsius,
    Count,
    Maybe,
    Percent,
    Positive,
    Section,
    Share,
    Text,
    Time,
    Whole,
    says,
)

__all__ = ["Device"]


class DeviceMachine(Section, kw_only=True):
    """What it is."""

    cpu: Annotated[Text, says("board or processor, as it calls itself")]
    model: Maybe[Annotated[Text, says("phone")]] = UNSET
    architecture: Annotated[Text, says("such as aarch64")]
    cores: Annotated[Positive | None, says("how many")]
    big_cores: Annotated[list[Amount], says("numbers of the fastest ones; empty where the system does not say")]
    flags: Annotated[list[Text], says("instruction sets that kernels choose between, those of them present")]
    dot_product: Annotated[bool, says("whether it sums 8-bit products in one instruction; else int8 may not win")]
    system: Annotated[Text, says("operating system and version")]
    libc: Annotated[Text, says("C library and version")]
    python: Annotated[Text | None, says("version; null on Android")]
    emulated: Annotated[Text | None, says("the processor another one pretends to be; null where it is real")]


class DeviceAccuracy(Section):
    """The integer file there, beside the same file on the building machine; null without labelled images."""

    metric: Annotated[Text, says("what `score` is: top-1, mIoU, mAP@0.5 or verification; else the task")]
    n: Annotated[Positive, says("images")]
    score: Annotated[Percent | None, says("the task's figure there, in percent; null where the task has none")]
    host_score: Annotated[Percent | None, says("the same on the building machine")]
    agreement: Annotated[
        Share, says("share, 0 to 1, of images, pixels, boxes or output values answered alike by both machines")
    ]
    host_runtime: Annotated[Text, says("what ran on the building machine")]
    values: Annotated[Count, says("output values compared")]
    equal: Annotated[Share, says("share of them equal")]
    max_difference: Annotated[Amount, says("largest difference, in steps where outputs are integers")]
    integer: Annotated[bool, says("whether outputs are integers")]
    sha256: Annotated[Text, says("of pixels and labels")]


class Activity(Section, kw_only=True):
    """What else happened on the machine meanwhile."""

    others: Annotated[Amount | None, says("cores kept busy by other programs meanwhile, on average")]
    stolen: Maybe[Annotated[Amount | None, says("share of the processor time that a hypervisor took")]] = UNSET
    processor_share: Annotated[Amount | None, says("share of the time this process was on a processor")]


class DeviceLatency(Times, kw_only=True):
    """Integer and float file timed there in turns; null where there are no times, as in an emulator."""

    p90_ms: Annotated[Time | None, says("integer file, 90th percentile; null on Android")]
    threads: Maybe[Annotated[Positive, says("threads of the runtime")]] = UNSET
    valid: Maybe[Annotated[bool, says("whether these timings may be believed")]] = UNSET
    conditions: Maybe[Activity] = UNSET


class Energy(Section, kw_only=True):
    """Energy of one inference, the board's draw at rest subtracted; absent where nothing was asked, as on Android."""

    reason: Annotated[Text | None, says("why it is not known; then the other keys are absent")]
    mj: Maybe[Annotated[Amount, says("integer file, millijoules of one inference")]] = UNSET
    float_mj: Maybe[Annotated[Amount, says("the same of the float file")]] = UNSET
    idle_w: Maybe[Annotated[Amount, says("watts at rest, right before; all rails added up")]] = UNSET
    load_w: Maybe[Annotated[Amount, says("watts while the integer file runs")]] = UNSET
    float_load_w: Maybe[Annotated[Amount, says("watts while the float file runs")]] = UNSET
    rails: Maybe[Annotated[Positive, says("supply rails that were added up")]] = UNSET
    readings: Maybe[Annotated[Positive, says("readings of each phase, at least")]] = UNSET
    source: Maybe[Annotated[Text, says("what was asked on the board")]] = UNSET


class Beside(Section):
    """The same file on the fastest board of the same kind; absent where there was no other, and for the fastest."""

    fastest: Annotated[Text, says("that board, as `--device` names it")]
    boards: Annotated[Positive, says("boards of the kind")]
    total: Annotated[Amount, says("time here as a multiple of the time there")]
    board: Annotated[
        Amount | None, says("the same of other files: the board's own slowness; null where there are none")
    ]
    own: Annotated[Amount | None, says("what is left of `total`: the file's own; null where there are no other files")]
    cause: Annotated[Text, says("of a difference of 10 % or more: none, board, file, both or unknown")]


class DeviceMoment(Section):
    """A device right before or after the timed part."""

    load: Annotated[Amount | None, says("load average of the last minute")]
    frequency_mhz: Annotated[Amount | None, says("mean clock of the cores used")]
    temperature_c: Annotated[Celsius | None, says("warmest sensor, degrees Celsius")]
    governors: Annotated[list[Text], says("clock governors of its cores, each once")]
    throttled: Annotated[Whole | None, says("Raspberry Pi's `get_throttled` bits")]
    thermal_status: Maybe[Annotated[Whole | None, says("Android's thermal status, 0 for none")]] = UNSET
    battery_percent: Maybe[Annotated[Whole | None, says("Android's battery")]] = UNSET


class Device(Section, kw_only=True):
    """The same files on other machines, one row for each `--device`; everything they said is in `device.json`."""

    name: Annotated[Text, says("as `--device` names it")]
    earlier: Maybe[Annotated[bool, says("present where an earlier build of the same file was measured there")]] = UNSET
    machine: DeviceMachine
    runtime: Annotated[Text, says("package and version that ran the file there")]
    program_sha256: Maybe[Annotated[Text, says("of `benchmark_model`; Android")]] = UNSET
    kernels: Annotated[Text, says("kernels asked for")]
    ops: Annotated[dict[Text, Count], says("what ran there, by the runtime's own names; empty where it does not tell")]
    accuracy: DeviceAccuracy | None
    latency: DeviceLatency | None
    energy: Maybe[Energy] = UNSET
    beside: Maybe[Beside] = UNSET
    threads: Annotated[Positive, says("threads of the runtime while timed")]
    valid: Annotated[bool, says("whether its timings may be believed; never in an emulator")]
    doubts: Annotated[list[Text], says("why not")]
    notes: Annotated[list[Text], says("what else a reader of the times should know")]
    affinity: Annotated[list[Amount], says("cores it was kept to; empty where that cannot be told")]
    peak_bytes: Annotated[Positive | None, says("most memory the process held; null under QEMU, whose own would count")]
    before: Annotated[DeviceMoment, says("the device right before the timed part")]
    after: Annotated[DeviceMoment, says("the device right after the timed part")]
