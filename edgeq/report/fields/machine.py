"""The machine that built, and how long the files take on it."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET

from edgeq.report.fields.types import Amount, Celsius, Maybe, Positive, Section, Text, Time, says

__all__ = ["Conditions", "Latency", "Times"]


class Machine(Section):
    """The machine that ran something."""

    machine: Annotated[Text, says("the machine in one line")]
    cpu: Annotated[Text, says("processor, or board and processor")]
    architecture: Annotated[Text, says("such as x86_64 or aarch64")]
    cores: Annotated[Positive, says("cores this process may use")]
    flags: Annotated[list[Text], says("instruction sets that kernels choose between, those of them present")]
    vnni: Annotated[bool, says("whether x86 sums 8-bit products without saturating on the way")]
    governor: Annotated[Text | None, says("clock governor; null where not readable")]
    platform: Annotated[Text, says("operating system and version")]
    python: Annotated[Text, says("version of Python")]
    virtual: Annotated[bool, says("whether this is a virtual machine")]
    container: Annotated[Text | None, says("kind of container, null for none seen")]
    emulated: Annotated[bool, says("another kind of processor pretended to be this one: its times mean nothing")]


class Conditions(Machine):
    """The machine and packages everything above was made and measured with."""

    runtime: Maybe[Annotated[Text, says("package and version that ran the file")]] = UNSET
    kernels: Maybe[Annotated[Text, says("kernels asked for")]] = UNSET
    packages: Maybe[Annotated[dict[Text, Text], says("versions of the packages that matter")]] = UNSET


class Times(Section, kw_only=True):
    """Timings of the integer and the float file, taken in turns; the same on every machine."""

    ratio: Annotated[Time, says("median of integer / float over pairs timed back to back; below 1 is faster")]
    ratio_interval: Maybe[Annotated[list[Amount], says("95 % interval of the median ratio, low and high")]] = UNSET
    float_median_ms: Annotated[Time, says("milliseconds of one inference of the float file, median")]
    integer_median_ms: Annotated[Time, says("the same of the integer file")]
    float_p90_ms: Maybe[Annotated[Time, says("float file, 90th percentile")]] = UNSET
    min_ms: Maybe[Annotated[Time, says("integer file, shortest")]] = UNSET
    float_min_ms: Maybe[Annotated[Time, says("float file, shortest")]] = UNSET
    spread: Maybe[Annotated[Amount, says("integer file: middle half of the timings as a share of the median")]] = UNSET
    float_spread: Maybe[Annotated[Amount, says("float file: the same")]] = UNSET
    runs: Annotated[Positive, says("timings of the integer file; where there is a float file, pairs")]
    inferences_per_run: Maybe[Annotated[Positive, says("inferences per timing, more than 1 for short ones")]] = UNSET
    reason: Maybe[Annotated[Text | None, says("why not valid; null when valid")]] = UNSET


class Moment(Section):
    """A machine right before or after the timed part."""

    load: Annotated[Amount | None, says("load average of the last minute")]
    frequency_mhz: Annotated[Amount | None, says("mean clock of all cores")]
    temperature_c: Annotated[Celsius | None, says("warmest thermal zone, degrees Celsius")]


class LatencyConditions(Machine, kw_only=True):
    """What the timings depend on."""

    runtime: Annotated[Text, says("package and version of the runtime")]
    kernels: Annotated[Text, says("kernels asked for, such as xnnpack or mlas")]
    before: Annotated[Moment, says("the machine right before the timed part")]
    after: Annotated[Moment, says("the machine right after the timed part")]
    others: Annotated[Amount | None, says("cores kept busy by other programs meanwhile, on average")]
    stolen: Maybe[Annotated[Amount | None, says("share of the processor time that a hypervisor took")]] = UNSET
    processor_share: Annotated[Amount | None, says("share of the time this process was on a processor")]


class Samples(Section):
    """Every timing, milliseconds per inference; the two lists are pairs."""

    float_ms: Annotated[list[Amount], says("float file")]
    integer_ms: Annotated[list[Amount], says("integer file")]


class Latency(Times, kw_only=True):
    """Float and integer file, timed in turns; null when not measured."""

    p90_ms: Annotated[Time, says("integer file, 90th percentile")]
    threads: Annotated[Positive, says("threads of the runtime")]
    valid: Annotated[bool, says("whether these timings may be believed")]
    conditions: LatencyConditions
    samples: Maybe[Samples] = UNSET
