"""What is asked of a device: what it is, what a file answers there, how long it takes there.

The agent answers, except on Android, which has no Python: there `edgeq.device.runners.phone` does.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import secrets
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.device.answers import read_answer
from edgeq.device.runners import agent, phone
from edgeq.device.transport import ShellTransport
from edgeq.device.transports.adb import AdbTransport
from edgeq.errors import DeviceError

__all__ = ["PROVISIONED", "Setup", "bench", "can_run", "evaluate", "probe"]

AGENT = Path(agent.__file__)

PROVISIONED = "runtimes"
"""Where on a device, below edgeq's folder, the runtimes are that `edgeq device provision` put there."""


WARMUP = 0.2
"""Seconds that each file runs before it is timed; less where timing itself is shorter."""

LARGEST_OUTPUT = 1 << 32
"""Bytes of outputs that are fetched from a device."""


@dataclass(frozen=True)
class Setup:
    """How a file is run on a device. `runtime` is one of the agent's, `session` onnxruntime's options by name.

    `program` is where on this machine Android's `benchmark_model` is, unless the environment says it.
    """

    runtime: str
    kernels: str
    threads: int = 1
    session: Mapping[str, str] = field(default_factory=dict)
    program: Path | None = None


def probe(device: ShellTransport, *, timeout: float = 300.0, program: Path | None = None) -> dict[str, Any]:
    """What is on the device. Raises `DeviceError`, with the line that helps when there is no Python."""
    if isinstance(device, AdbTransport):
        return phone.probe(device, program)
    return _agent(device, ["probe"], timeout)


def evaluate(
    device: ShellTransport,
    model: Path,
    batch: npt.NDArray[Any],
    setup: Setup,
    *,
    timeout: float = 3600.0,
    expected: Sequence[npt.NDArray[Any]] | None = None,
) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
    """Raw outputs ``(N, ...)`` of `model` for `batch`, samples in the type and layout the file takes; and the facts.

    `expected` are arrays of the types and shapes that must come. Raises `DeviceError`.
    """
    if isinstance(device, AdbTransport):
        xnnpack = setup.kernels == "xnnpack"
        return _phone(device, setup).evaluate(model, batch, threads=setup.threads, xnnpack=xnnpack, timeout=timeout)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(batch), allow_pickle=False)
    outputs = f"{device.job}/outputs.bin"
    request = _request(setup) | {
        "model": device.push(model, model.name),
        "inputs": device.push(buffer.getvalue(), "inputs.npy"),
        "outputs": outputs,
    }
    facts = _agent(device, ["eval"], timeout, request)
    kinds = [(tuple(each["shape"]), np.dtype(each["dtype"])) for each in facts["arrays"]]
    if expected is not None and kinds != [(array.shape, array.dtype) for array in expected]:
        raise _damaged(device, "its outputs have other shapes or types than the file's")
    size = sum(math.prod(shape) * kind.itemsize for shape, kind in kinds)
    if facts["images"] != len(batch) or size > LARGEST_OUTPUT:
        raise _damaged(device, f"{facts['images']} images and {size} bytes of outputs")
    data = device.pull(outputs, most=size)
    if len(data) != size or facts["sha256"] != _sha256(data):
        raise _damaged(device, "its outputs are not those it names")
    found, start = [], 0
    for shape, kind in kinds:
        end = start + math.prod(shape) * kind.itemsize
        found.append(np.frombuffer(data[start:end], kind).reshape(shape))
        start = end
    return found, facts


def bench(
    device: ShellTransport,
    model: Path,
    baseline: Path | None,
    setup: Setup,
    *,
    rounds: int = 400,
    seconds: float = 4.0,
    cooldown: float = 0.0,
    timeout: float = 900.0,
) -> dict[str, Any]:
    """Time `model`, in turns with `baseline` when there is one. Milliseconds, their conditions, and whether to believe.

    An emulated device gives no times at all, nor memory, which would be its emulator's too: `latency` and `peak_bytes`
    are None.

    Raises `DeviceError`.
    """
    if isinstance(device, AdbTransport):
        return _phone(device, setup).bench(
            model, baseline, threads=setup.threads, xnnpack=setup.kernels == "xnnpack", seconds=seconds,
            cooldown=cooldown, timeout=timeout,
        )  # fmt: skip
    request = _request(setup) | {
        "model": device.push(model, model.name),
        "float": device.push(baseline, baseline.name) if baseline else None,
        "rounds": rounds,
        "seconds": seconds,
        "warmup": min(WARMUP, seconds),
        "cooldown": cooldown,
    }
    began = time.monotonic()
    facts = _agent(device, ["bench"], timeout, request)
    samples, wanted = facts["samples"], ["model", *(["float"] if baseline else [])]
    if set(samples) != set(wanted) or len({len(values) for values in samples.values()}) > 1:
        raise _damaged(device, "it did not time each file as often")
    facts["doubts"] = _doubts(facts, time.monotonic() - began)
    facts["valid"] = not facts["doubts"]
    if facts["machine"]["emulated"]:
        return {key: value for key, value in facts.items() if key != "samples"} | {"latency": None, "peak_bytes": None}
    return facts | _summary(facts["samples"])


def _doubts(facts: Mapping[str, Any], elapsed: float) -> list[str]:
    """The device's own doubts, those that its facts give rise to, and whether it timed more than passed here."""
    before, after = (
        facts[when] | {"frequency_khz": {int(core): khz for core, khz in facts[when]["frequency_khz"].items()}}
        for when in ("before", "after")
    )
    samples, machine = facts["samples"], facts["machine"]
    found = [*facts["doubts"], *agent.doubts(before, after, samples.get("float", []), samples["model"],
                                             machine["cores"], machine["emulated"])]  # fmt: skip
    timed = facts["inferences_per_run"] * sum(sum(values) for values in samples.values()) / 1000
    if timed > elapsed:
        found.append(f"its timings add up to {timed:.1f} s, and {elapsed:.1f} s passed here")
    if not facts["valid"] and not found:
        found.append("the device says so")
    return list(dict.fromkeys(found))


def can_run(device: ShellTransport, setup: Setup) -> None:
    """Raises `DeviceError` when files are not run like this on such a device, before anything is pushed."""
    if not isinstance(device, AdbTransport):
        return
    if setup.runtime == "onnxruntime":
        raise DeviceError(
            "ONNX files cannot be run on Android from here", where=device.name,
            why="onnxruntime publishes no program for its command line", hint="docs/devices.md says how by hand",
        )  # fmt: skip
    if setup.runtime != "litert" or setup.kernels not in ("xnnpack", "builtin"):
        raise DeviceError(f"{setup.runtime} with {setup.kernels} kernels does not run on Android", where=device.name,
                          hint="benchmark_model holds a runtime of its own: leave --runtime out")  # fmt: skip
    phone.find_program(setup.program)


def _phone(device: AdbTransport, setup: Setup) -> phone.Phone:
    can_run(device, setup)
    return phone.Phone(device, phone.find_program(setup.program))


def _summary(samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in samples.items():
        ordered = sorted(values)
        found[name] = {
            "median_ms": statistics.median(ordered),
            "p90_ms": ordered[min(len(ordered) - 1, (9 * len(ordered)) // 10)],
            "min_ms": ordered[0],
            "runs": len(ordered),
        }
    if "float" in samples:
        found["ratio"] = statistics.median(i / f for i, f in zip(samples["model"], samples["float"], strict=True))
    return {"latency": found}


def _request(setup: Setup) -> dict[str, Any]:
    return {
        "runtime": setup.runtime, "kernels": setup.kernels, "threads": setup.threads, "session": dict(setup.session),
    }  # fmt: skip


def _agent(
    device: ShellTransport, words: list[str], timeout: float, request: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run the agent there and return its result. Whatever else is printed there is ignored."""
    path = device.push(AGENT, "agent.py")
    if request is not None:
        words = [*words, device.push(json.dumps(request, sort_keys=True).encode(), "request.json")]
    runtimes = f"{device.root}/{PROVISIONED}"
    given = device.environment.get("PYTHONPATH", "")
    wanted = f"{runtimes}/{request['runtime']}" if request else ""
    environment = {
        "EDGEQ_RUNTIMES": runtimes, "PYTHONPATH": ":".join(path for path in (wanted, given) if path),
        "EDGEQ_PYTHON": json.dumps(list(device.python)), "OMP_NUM_THREADS": str((request or {}).get("threads", 1)),
    }  # fmt: skip
    token = secrets.token_hex(16)
    command = [*device.python, path, *words, "--job", token, "--tied"]
    done = device.run(command, timeout=timeout, environment=environment)
    answer = read_answer(done.stdout, words[0], token, device.name)
    if answer is None or done.status:
        raise _no_answer(device, done.status, done.last_words)
    return answer


def _damaged(device: ShellTransport, why: str) -> DeviceError:
    return DeviceError("the device's answers are damaged", where=device.name, why=why, hint="try again")


def _no_answer(device: ShellTransport, status: int, said: str) -> DeviceError:
    foreign = "ELF" in said  # what a shell says that takes another processor's program for a script
    if status == 126 or (status == 127 and foreign):
        return DeviceError(
            "Python does not start on the device", where=device.name,
            why="it is no program for this processor" if foreign else said,
            hint="install a Python for its processor there: sudo apt-get install --reinstall python3",
        )  # fmt: skip
    if status == 127:
        return DeviceError(
            "there is no Python on the device", where=device.name, why=said,
            hint="sudo apt-get install python3 python3-venv, there",
        )  # fmt: skip
    if status in (132, -4):
        return DeviceError(
            "the runtime on the device uses instructions its processor lacks", where=device.name,
            hint="install a build for this processor: edgeq device provision",
        )  # fmt: skip
    if status in (134, 135, 136, 139, -6, -7, -8, -11):
        return DeviceError(
            "the runtime on the device crashed on this file", where=device.name,
            why=f"ended by {signal.Signals(status - 128 if status > 0 else -status).name}",
            hint="it is damaged, or this runtime has a fault: try another version of it",
        )  # fmt: skip
    if status in (137, -9):
        return DeviceError(
            "the agent was killed on the device", where=device.name, why="out of memory, or by somebody",
            hint="free some memory there, then run again",
        )  # fmt: skip
    return DeviceError(
        "the agent on the device gave no answer", where=device.name, why=said or f"exit status {status}",
        hint="run again; edgeq device probe tells what is there",
    )  # fmt: skip


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
