"""A TFLite file on an Android device, run by `benchmark_model`: what it answers there, and how long it takes there.

Latency, memory and the profile of ops come from separate runs, because watching memory or ops costs time. Integer and
float file are timed in turns, a process each. Outputs come one image at a time, through the tool's own value files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.device.runners import android
from edgeq.device.runners.base import RUNNERS, WARMUP, Pace, Runner, Setup, damaged_error
from edgeq.device.runners.benchmark_model import Benchmark, Program, flags, parse
from edgeq.device.transport import Completed, ShellTransport
from edgeq.errors import ConfigError, DeviceError, NoRuntimeError
from edgeq.formats.tflite.session import file_tensors
from edgeq.isolation import run_isolated
from edgeq.measure.latency import latency_facts
from edgeq.measure.validity import ENOUGH_RUNS, MOST_SPREAD, doubts

__all__ = ["PROGRAM", "PhoneRunner", "find_program"]

PROGRAM = "EDGEQ_BENCHMARK_MODEL"
"""Names the tool's file on this machine where the command line does not."""

PAIRS = 6
"""Processes of each file that are timed: the fewest whose range is a 95 % interval of the median ratio."""

Facts = dict[str, Any]

_KILLED = {132: "it uses instructions the processor lacks", 134: "it gave up", 137: "it was killed", 139: "it crashed"}

_TIMES = r"([0-9]{1,9})m([0-9]{1,2}(?:\.[0-9]{1,9})?)s"
"""A time as a shell's `times` prints it."""

_TIED = """exec 3<&0
( {command}
) </dev/null & work=$!
( read -r line <&3; kill -9 $work ) >/dev/null 2>&1 & watch=$!
wait $work; status=$?
kill -9 $watch 2>/dev/null
times >&2
exit $status"""
"""Ends a program with its connection: `adb` keeps standard input open as long as somebody is there. A shell that has
just been forked loses gentler signals, and the watcher would then hold the connection. `times` says what the program
took of the processor."""


def find_program(given: Path | None = None) -> Program:
    """The tool, from the command line or the environment. Raises `DeviceError` when nobody has said where it is."""
    named = given or os.environ.get(PROGRAM)
    if not named:
        raise NoRuntimeError(
            "files run on Android through benchmark_model, and nobody has said where it is",
            hint=f"--benchmark-model PATH or {PROGRAM}; docs/how-to/devices.md says where to get it",
        )
    return Program.read(Path(named))


@RUNNERS.register("benchmark_model")
class PhoneRunner(Runner):
    """`benchmark_model` on a device whose shell is Android's. `raw` keeps all it printed, by what it was run for."""

    runtimes = ("litert",)

    def __init__(self, device: ShellTransport) -> None:
        super().__init__(device)
        self.raw: dict[str, str] = {}
        self._own = 0.0
        self._pinned: list[int] = []

    def probe(self, *, program: Path | None = None, timeout: float = 300.0) -> dict[str, Any]:
        """What the device is and does, and whether `benchmark_model` starts there."""
        self.machine = android.machine(self.device)
        state: dict[str, Any] = {"works": False, "version": None, "numpy": None, "why": ""}
        try:
            self._put(program)
        except DeviceError as error:
            state["why"] = error.why or f"not said where it is: --benchmark-model PATH or {PROGRAM}"
        else:
            state |= {"version": self.program.name} | self._starts()
        return {
            "machine": self.machine,
            "moment": android.moment(self.device),
            "runtimes": {"benchmark_model": state},
            "free_bytes": self.machine["free_bytes"],
        }

    def check(self, setup: Setup) -> None:
        if setup.runtime == "onnxruntime":
            raise NoRuntimeError(
                "ONNX files cannot be run on Android from here",
                where=self.device.name,
                why="onnxruntime publishes no program for its command line",
                hint="docs/how-to/devices.md says how by hand",
            )
        if setup.runtime != "litert" or setup.kernels not in ("xnnpack", "builtin"):
            raise NoRuntimeError(
                f"{setup.runtime} with {setup.kernels} kernels does not run on Android",
                where=self.device.name,
                hint="benchmark_model holds a runtime of its own: leave --runtime out",
            )
        find_program(setup.program)

    def bench(self, model: Path, baseline: Path | None, setup: Setup, pace: Pace) -> dict[str, Any]:
        """Time both files. Returns the facts that the agent returns, and those that only this tool knows."""
        self._prepare(setup)
        xnnpack = setup.kernels == "xnnpack"
        files = {"float": baseline, "model": model} if baseline else {"model": model}
        paths = {name: self.device.push(file, file.name) for name, file in files.items()}
        # As many inferences in all as the agent times pairs.
        each: dict[str, Any] = {
            "threads": setup.threads,
            "xnnpack": xnnpack,
            "runs": -(-pace.least // PAIRS),
            "seconds": pace.seconds / PAIRS / len(files),
            "warmup": WARMUP,
        }
        time.sleep(pace.cooldown)
        before = self._moment()
        timed: dict[str, list[Benchmark]] = {name: [] for name in paths}
        for place in range(PAIRS):
            for name in list(paths)[:: 1 if place % 2 == 0 else -1]:
                timed[name].append(self._run(f"latency {name} {place}", flags(paths[name], **each), pace.timeout))
        after = self._moment()
        memory, profile = {}, {}
        for name, path in paths.items():
            memory[name] = self._run(f"memory {name}", flags(path, **each, memory=True), pace.timeout)
            profile[name] = self._run(f"profile {name}", flags(path, **each, profile=True), pace.timeout)
        reasons = self._doubts(timed, before, after)
        own = timed["model"][-1]
        return {
            "latency": None if self.machine["emulated"] else _latency(timed, setup.threads, reasons),
            "threads": setup.threads,
            "doubts": reasons,
            "valid": not reasons,
            "notes": _notes(own, xnnpack),
            "before": before,
            "after": after,
            "machine": self.machine,
            "affinity": self._pinned,
            "ops": {op.op: op.count for op in profile["model"].profile},
            "profile": {name: [asdict(op) for op in run.profile] for name, run in profile.items()},
            "memory": {
                name: {"peak_bytes": run.peak_bytes, "grown_bytes": run.grown_bytes} for name, run in memory.items()
            },
            "peak_bytes": memory["model"].peak_bytes,
            "delegated": {"nodes": own.delegated, "of": own.nodes, "whole": own.whole},
            "runtime": self.program.name,
            "program_sha256": self.program.sha256,
            "kernels": "xnnpack" if xnnpack else "builtin",
            "expect_no_gain": not self.machine["dot_product"],
            "raw": self.raw,
        }

    def evaluate(
        self,
        model: Path,
        batch: npt.NDArray[Any],
        setup: Setup,
        *,
        timeout: float,
        expected: Sequence[npt.NDArray[Any]] | None = None,
    ) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
        given, outputs = run_isolated(file_tensors, str(model))
        if "," in given.name:
            raise ConfigError(f"benchmark_model cannot name the input {given.name!r}", hint="a comma ends a name there")
        self._prepare(setup)
        xnnpack = setup.kernels == "xnnpack"
        job, batch = self.device.job, np.ascontiguousarray(batch)
        path, inputs = self.device.push(model, model.name), self.device.push(batch.tobytes(), "inputs.bin")
        size, name = batch[0].nbytes, given.name.replace(":", "::")
        words = [
            *flags(path, threads=setup.threads, xnnpack=xnnpack, runs=1, seconds=0, warmup=0),
            f"--input_layer={given.name}",
            f"--input_layer_shape={','.join(map(str, given.shape))}",
            f"--input_layer_value_files={name}:{job}/in",
            f"--output_filepath={job}/out",
        ]
        folder = shlex.quote(job)
        loop = (
            f"cd {folder} && : > outputs && i=0 && while [ $i -lt {len(batch)} ]; do "
            f"dd if={shlex.quote(inputs)} of=in bs={size} skip=$i count=1 2>/dev/null || exit; "
            f"rm -f out; {self._command(words)} >log 2>&1 || {{ s=$?; tail -c 4000 log; exit $s; }}; "
            "[ -s out ] || { echo 'ERROR: this build has no --output_filepath'; exit 1; }; "
            f"cat out >> outputs || exit; i=$((i+1)); done; cat log; sha256sum outputs"
        )
        before = self._moment()
        done = self._call(loop, timeout)
        printed = self.raw["eval"] = done.stdout.decode(errors="replace")
        if done.status:
            raise self._refused(done, printed)
        if ignored := self._parsed(printed).ignored:
            raise NoRuntimeError(
                "this build of benchmark_model cannot be given images",
                where=self.device.name,
                why=f"it does not know {', '.join(ignored)}",
                hint="use a newer build",
            )
        shapes = [(tensor.shape, tensor.dtype) for tensor in outputs]
        expected_bytes = len(batch) * sum(int(np.prod(shape)) * kind.itemsize for shape, kind in shapes)
        data = self.device.pull(f"{job}/outputs", timeout=timeout, most=expected_bytes)
        if len(data) != expected_bytes or hashlib.sha256(data).hexdigest() not in printed:
            raise damaged_error(self.device, f"{len(data)} bytes came, {expected_bytes} should")
        facts = {
            "images": len(batch),
            "sha256": hashlib.sha256(data).hexdigest(),
            "ops": {},
            "peak_bytes": None,
            "before": before,
            "after": self._moment(),
            "machine": self.machine,
            "runtime": self.program.name,
            "kernels": "xnnpack" if xnnpack else "builtin",
        }
        return _outputs(data, len(batch), shapes), facts

    def _put(self, program: Path | None) -> None:
        """Push the tool. Raises `DeviceError` when it is not for the device's processor."""
        self.program = find_program(program)
        self.program.fits(self.machine["abis"], self.device.name)
        self._path = self.device.push(self.program.path, "benchmark_model")
        self.device.execute(f"chmod 700 {shlex.quote(self._path)}")

    def _starts(self) -> dict[str, Any]:
        """Whether the tool runs at all: without a file to time it says so and ends with 1."""
        done = self._call(f"exec {self._command([])} 2>&1", 60)
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        works = done.status < 126
        return {
            "works": works,
            "why": "" if works else _KILLED.get(done.status) or (lines or ["it does not start"])[-1],
        }

    def _prepare(self, setup: Setup) -> None:
        """Push the tool, and use the fastest cores when they are enough and the device can be told."""
        self.machine = android.machine(self.device)
        self._put(setup.program)
        fast, cores = self.machine["big_cores"], self.machine["cores"] or 0
        self._pinned = fast if self.machine["pinning"] and setup.threads <= len(fast) < cores else []

    def _doubts(self, timed: Mapping[str, Sequence[Benchmark]], before: Facts, after: Facts) -> list[str]:
        """Why not to believe these times, by the limits of every device and by what Android says.

        The tool starts, loads and warms up between the moments too, so the seconds of its timings are all that it must
        have been on a processor.
        """
        own = timed["model"]
        runs = sum(run.runs for run in own)
        reasons = doubts(
            self.machine,
            android.add_clock_limits(before),
            android.add_clock_limits(after),
            [_middle(run) for run in timed.get("float", ())],
            [_middle(run) for run in own],
            runs=runs,
            working=sum(run.runs * run.mean_ms for each in timed.values() for run in each) / 1000,
        )
        if self.machine["emulated"]:
            return reasons
        for name, each in timed.items():
            called = "integer" if name == "model" else name
            inside = statistics.median((run.std_ms or 0.0) / run.mean_ms for run in each)
            if inside > MOST_SPREAD:
                reasons.append(f"timings of the {called} file in one process spread by {inside:.0%} of their mean")
            if (count := sum(run.runs for run in each)) < ENOUGH_RUNS and name != "model":
                reasons.append(f"{count} runs of the {called} file are too few, {ENOUGH_RUNS} are needed")
        reasons += [f"this build of benchmark_model does not know {flag}" for flag in own[-1].ignored]
        return reasons + android.doubts(before, after)

    def _moment(self) -> dict[str, Any]:
        return android.moment(self.device, own=self._own, affinity=self._pinned)

    def _command(self, words: Sequence[str]) -> str:
        pinned = ["taskset", android.mask(self._pinned)] if self._pinned else []
        return shlex.join([*pinned, self._path, *words])

    def _run(self, what: str, words: Sequence[str], timeout: float) -> Benchmark:
        done = self._call(f"exec {self._command(words)} 2>&1", timeout)
        self.raw[what] = done.stdout.decode(errors="replace")
        if done.status:
            raise self._refused(done, self.raw[what])
        return self._parsed(self.raw[what])

    def _parsed(self, printed: str) -> Benchmark:
        try:
            return parse(printed)
        except DeviceError as error:
            raise DeviceError(error.what, where=self.device.name, why=error.why, hint=error.hint) from error

    def _call(self, command: str, timeout: float) -> Completed:
        done = self.device.execute(_TIED.format(command=command), timeout=timeout)
        taken = re.findall(_TIMES, done.stderr)[-2:]  # user and system, of what the shell waited for
        self._own += sum(60 * int(minutes) + float(seconds) for minutes, seconds in taken)
        return done

    def _refused(self, done: Completed, printed: str) -> DeviceError:
        lines = [line.strip() for line in (printed + "\n" + done.stderr).splitlines() if line.strip()]
        lines = [line for line in lines if not re.fullmatch(r"\d+m[\d.]+s\s+\d+m[\d.]+s", line)]
        errors = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
        why = _KILLED.get(done.status) or (errors or lines or [f"exit status {done.status}"])[-1][:300]
        hint = "run it by hand with the same file to see more"
        if "No space left" in printed:
            hint = f"free some space there; {self.device.by_hand(f'rm -rf {self.device.root}')} helps"
        elif done.status in (126, 127, 132):
            hint = f"use a build for {(self.machine['abis'] or ['this processor'])[0]}"
        elif done.status == 137:
            hint = "close other apps there, then run again"
        return DeviceError("benchmark_model failed on the device", where=self.device.name, why=why, hint=hint)


def _outputs(
    data: bytes, images: int, shapes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]
) -> list[npt.NDArray[Any]]:
    """One array ``(N, ...)`` per output, out of all outputs of the first image, of the second, and so on."""
    rows = np.frombuffer(data, np.uint8).reshape(images, -1)
    outputs, start = [], 0
    for shape, kind in shapes:
        end = start + int(np.prod(shape)) * kind.itemsize
        outputs.append(np.ascontiguousarray(rows[:, start:end]).view(kind).reshape(images * shape[0], *shape[1:]))
        start = end
    return outputs


def _latency(timed: Mapping[str, Sequence[Benchmark]], threads: int, doubts: Sequence[str]) -> dict[str, Any]:
    """The latency facts of pairs of processes, from each its median, or its mean where the build prints no median."""
    own, base = timed["model"], timed.get("float", ())
    facts = latency_facts(
        [_middle(run) for run in base], [_middle(run) for run in own], inferences=1, threads=threads, doubts=doubts
    )
    facts |= {"p90_ms": None, "runs": sum(run.runs for run in own)}
    # What each process does not say is left out: how many inferences it ran, and the ends of their distribution.
    for key in ("inferences_per_run", "min_ms", "float_min_ms", "float_p90_ms"):
        facts.pop(key, None)
    for prefix, runs in (("", own), ("float_", base)):
        lowest = [run.min_ms for run in runs if run.min_ms is not None]
        highest = [run.p95_ms for run in runs if run.p95_ms is not None]
        facts |= {f"{prefix}min_ms": min(lowest)} if lowest else {}
        facts |= {f"{prefix}p95_ms": statistics.median(highest)} if highest else {}
    return facts | {"of": "medians" if all(run.median_ms is not None for run in (*own, *base)) else "means"}


def _middle(run: Benchmark) -> float:
    return run.median_ms or run.mean_ms


def _notes(run: Benchmark, xnnpack: bool) -> list[str]:
    """What a reader of the times should know, though it does not make them wrong."""
    if not xnnpack or run.whole is not False:
        return []
    share = f"{run.delegated} of {run.nodes} ops" if run.nodes else "a part of the ops"
    return [f"XNNPACK took {share}, the rest ran as builtin kernels"]
