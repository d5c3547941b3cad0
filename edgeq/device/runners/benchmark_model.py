"""TensorFlow Lite's own command-line tool, `benchmark_model`: its flags, and what it prints.

It is what runs a TFLite file on Android without an app. Its words have changed over the years, so they are looked up by
key and anything may be missing; times are microseconds there and milliseconds here. Sources: ``benchmark_model.cc``,
``benchmark_tflite_model.cc`` and ``stats_calculator.cc`` of TensorFlow 1.12 to 2.x and of LiteRT.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ConfigError, DeviceError, NoRuntimeError
from edgeq.limits import read_bytes

__all__ = ["Benchmark", "OpTime", "Program", "flags", "parse"]

_ABI = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
"""ELF machine numbers, as Android names them."""

_NUMBER = r"[-+]?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e[-+]?[0-9]{1,3})?"
_STATISTICS = re.compile(r"(?:^|[\s\]])count=\d+")
_OTHER_COUNTS = ("Timings (microseconds)", "Memory (bytes)")
_UNKNOWN = re.compile(r"Unconsumed cmdline flags:(.*)")
_DELEGATED = re.compile(r"Replacing ([0-9]{1,9}) out of ([0-9]{1,9}) node\(s\) with delegate")


LONGEST = 2000
"""Characters of a line that are looked at."""

MOST = 1e15
"""No count, time or size that the tool prints is larger."""


@dataclass(frozen=True)
class OpTime:
    """One kind of op in a profile: how many nodes, and milliseconds of one inference in all of them."""

    op: str
    count: int
    ms: float


@dataclass(frozen=True)
class Benchmark:
    """What one run of the tool said; None or empty where it did not say it.

    `delegated` of `nodes` went to a delegate, the whole graph when `whole` is true and none of it when it is false.
    `peak_bytes` is the most memory the tool held, `grown_bytes` what the model added to it. `ignored` are flags this
    build does not know: it warns and goes on without them.
    """

    runs: int
    mean_ms: float
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    first_ms: float | None = None
    init_ms: float | None = None
    delegated: int | None = None
    nodes: int | None = None
    whole: bool | None = None
    peak_bytes: int | None = None
    grown_bytes: int | None = None
    profile: tuple[OpTime, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """The tool as a file here. Which build it is can only be told by its checksum."""

    path: Path
    sha256: str
    abi: str | None

    @classmethod
    def read(cls, path: Path) -> Program:
        """Raises `ConfigError` for a file that cannot be read, or that Linux could run and Android cannot."""
        try:
            data = read_bytes(path)
        except OSError as error:
            raise ConfigError(f"no benchmark_model at {path}", why=error.strerror or str(error)) from error
        elf = data[:4] == b"\x7fELF"
        if elf and re.search(rb"/lib(64)?/ld-linux", data[:4096]):
            raise ConfigError(f"{path} was built for Linux, not for Android", hint="use the android build of it")
        number = int.from_bytes(data[18:20], "little")
        abi = _ABI.get(number, f"machine {number}") if elf else None
        return cls(path, hashlib.sha256(data).hexdigest(), abi)

    @property
    def name(self) -> str:
        return f"benchmark_model {self.sha256[:12]}"

    def fits(self, abis: Sequence[str], where: str) -> None:
        """Raises `DeviceError` when a device of these ABIs cannot run it."""
        if self.abi and abis and self.abi not in abis:
            raise NoRuntimeError(
                "benchmark_model is built for another processor",
                where=where,
                why=f"it is {self.abi}, the device runs {', '.join(abis)}",
                hint=f"use a build for {abis[0]}",
            )


def flags(
    graph: str,
    *,
    threads: int,
    xnnpack: bool,
    runs: int,
    seconds: float,
    warmup: float,
    memory: bool = False,
    profile: bool = False,
) -> list[str]:
    """The tool's arguments: at least `runs` inferences and `seconds`, at most ten times that long."""
    return [
        f"--graph={graph}",
        f"--num_threads={threads}",
        f"--use_xnnpack={_word(xnnpack)}",
        f"--num_runs={runs}",
        f"--min_secs={seconds:g}",
        f"--max_secs={max(10 * seconds, 1):g}",
        f"--warmup_runs={1 if warmup else 0}",
        f"--warmup_min_secs={warmup:g}",
        f"--report_peak_memory_footprint={_word(memory)}",
        f"--enable_op_profiling={_word(profile)}",
    ]


def parse(text: str) -> Benchmark:
    """What the tool printed, standard output and error together. Raises `DeviceError` when there is no time in it.

    A time of zero is none: the tool counts whole microseconds.
    """
    text = "\n".join(line[:LONGEST] for line in text.replace("\r\n", "\n").split("\n"))
    try:
        benchmark = _parse(text)
    except (ValueError, OverflowError) as error:
        raise _unusable(str(error)) from error
    if not all(isinstance(value, tuple) or _sane(value) for value in vars(benchmark).values()):
        raise _unusable("a number in it is none")
    return benchmark


def _unusable(why: str) -> DeviceError:
    return DeviceError("what benchmark_model printed makes no sense", why=why[:300], hint="see its raw output")


def _sane(value: float | None) -> bool:
    """Milliseconds, counts and bytes all lie in here."""
    return value is None or 0 <= value <= MOST


def _parse(text: str) -> Benchmark:
    phases = [
        dict(re.findall(rf"(\w+)=({_NUMBER})", line))
        for line in text.splitlines()
        if _STATISTICS.search(line) and not any(sign in line for sign in _OTHER_COUNTS)
    ]
    summary: dict[str, float] = {}
    for line in text.splitlines():
        _, separator, rest = line.partition("nference timings in us:")
        if separator:
            summary = {
                key.strip(): float(value) for key, value in re.findall(rf"([A-Za-z][\w ()]*): ({_NUMBER})", rest)
            }
    run = phases[-1] if phases else {}
    mean = _first(run, "avg", "curr") if int(run.get("count", 1)) else None
    if mean is None:
        mean = _first(summary, "Inference (avg)", "Inference", "no stats")
    if not mean:
        raise DeviceError("benchmark_model printed no time", why=_last_words(text), hint="see its raw output")
    same = "avg" not in run  # then every inference took as long as the last, and nothing else is printed
    replaced = _DELEGATED.findall(text)
    return Benchmark(
        runs=int(run.get("count", 1)),
        mean_ms=mean / 1000,
        min_ms=_ms(_first(run, "min", *["curr"] * same)),
        max_ms=_ms(_first(run, "max", *["curr"] * same)),
        std_ms=0.0 if same and run else _ms(_first(run, "std")),
        median_ms=_ms(_first(run, "median")),
        p95_ms=_ms(_first(run, "p95")),
        first_ms=_ms(_first(summary, "First inference") or _first(phases[0] if len(phases) > 1 else {}, "first")),
        init_ms=_ms(_first(summary, "Init")),
        delegated=sum(int(taken) for taken, _ in replaced) if replaced else None,
        nodes=int(replaced[0][1]) if replaced else None,
        whole=_whole(text, replaced),
        peak_bytes=_bytes(text, rf"peak memory footprint \(MB\)[^:]*: ({_NUMBER})"),
        grown_bytes=_bytes(text, rf"Memory footprint delta[^:]*: .*?overall=({_NUMBER})"),
        profile=_profile(text),
        ignored=tuple(flag for line in _UNKNOWN.findall(text) for flag in re.findall(r"--\w+", line)),
    )


def _word(flag: bool) -> str:
    return "true" if flag else "false"


def _first(match: dict[str, str] | dict[str, float], *keys: str) -> float | None:
    return next((float(match[key]) for key in keys if key in match), None)


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


def _bytes(text: str, pattern: str) -> int | None:
    match = re.search(pattern, text)
    return round(float(match[1]) * 2**20) if match else None


def _whole(text: str, replaced: list[tuple[str, str]]) -> bool | None:
    if "model graph will be completely executed" in text:
        return True
    if "model graph will be partially executed" in text or "model graph will not be executed" in text:
        return False
    return sum(int(taken) for taken, _ in replaced) == int(replaced[0][1]) if replaced else None


def _profile(text: str) -> tuple[OpTime, ...]:
    """The last table by node type: the one before it, where there are two, is about initialization."""
    lines = text.splitlines()
    starts = [place for place, line in enumerate(lines) if "Summary by node type" in line]
    if not starts:
        return ()
    header, *rows = lines[starts[-1] + 1 :]
    columns = re.findall(r"\[([^\]]+)\]", header)
    if columns[:1] != ["Node type"] or not {"count", "avg ms"} <= set(columns):
        return ()
    times = []
    for row in rows:
        cells = row.rsplit(maxsplit=len(columns) - 1)
        if len(cells) != len(columns):
            break
        named = dict(zip(columns, cells, strict=True))
        if not (re.fullmatch(r"[0-9]{1,9}", named["count"]) and re.fullmatch(_NUMBER, named["avg ms"])):
            break
        times.append(OpTime(named["Node type"].strip(), int(named["count"]), float(named["avg ms"])))
    return tuple(times)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
    return (errors or lines or ["nothing at all"])[-1][:300]
