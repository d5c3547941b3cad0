"""What is asked of a device: what it is, what a file answers there, how long it takes there.

The agent answers, except on Android, which has no Python: there `edgeq.device.phone` does.
"""

from __future__ import annotations

import hashlib
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.device import agent, phone
from edgeq.device.adb import AdbTransport
from edgeq.device.transport import ShellTransport
from edgeq.errors import DeviceError

__all__ = ["PROVISIONED", "Setup", "bench", "can_run", "evaluate", "probe"]

AGENT = Path(agent.__file__)

PROVISIONED = "runtimes"
"""Where on a device, below edgeq's folder, the runtimes are that `edgeq device provision` put there."""


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
    device: ShellTransport, model: Path, batch: npt.NDArray[Any], setup: Setup, *, timeout: float = 3600.0
) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
    """Raw outputs ``(N, ...)`` of `model` for `batch`, samples in the type and layout the file takes; and the facts.

    Raises `DeviceError`.
    """
    if isinstance(device, AdbTransport):
        xnnpack = setup.kernels == "xnnpack"
        return _phone(device, setup).evaluate(model, batch, threads=setup.threads, xnnpack=xnnpack, timeout=timeout)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(batch), allow_pickle=False)
    outputs = f"{device.job}/outputs.npz"
    request = _request(setup) | {
        "model": device.push(model, model.name),
        "inputs": device.push(buffer.getvalue(), "inputs.npy"),
        "outputs": outputs,
    }
    facts = _agent(device, ["eval"], timeout, request)
    data = device.pull(outputs)
    if facts.get("images") != len(batch) or facts.get("sha256") != _sha256(data):
        raise DeviceError("the device's answers are damaged", where=device.name, hint="try again")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return [file[f"output{place}"] for place in range(len(file.files))], facts


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
        "warmup": 0.2,
        "cooldown": cooldown,
    }
    facts = _agent(device, ["bench"], timeout, request)
    if facts["machine"]["emulated"]:
        return {key: value for key, value in facts.items() if key != "samples"} | {"latency": None, "peak_bytes": None}
    return facts | _summary(facts["samples"])


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
    done = device.run([*device.python, path, *words, "--tied"], timeout=timeout, environment=environment)
    events = list(_events(done.stdout))
    for event in events:
        if event[agent.MARK] == "result":
            return event
    for event in events:
        if event[agent.MARK] == "error":
            raise DeviceError(
                "the model could not be run on the device", where=device.name,
                why=f"{event.get('error')}: {event.get('message')}", hint=f"edgeq device probe {device.name}",
            )  # fmt: skip
    raise _no_answer(device, done.status, done.last_words)


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
    if status in (137, -9):
        return DeviceError(
            "the agent was killed on the device", where=device.name, why="out of memory, or by somebody",
            hint="free some memory there, then run again",
        )  # fmt: skip
    return DeviceError(
        "the agent on the device gave no answer", where=device.name, why=said or f"exit status {status}",
        hint="run again; edgeq device probe tells what is there",
    )  # fmt: skip


def _events(stdout: bytes) -> list[dict[str, Any]]:
    found = []
    for line in stdout.decode(errors="replace").splitlines():
        if line.startswith("{"):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get(agent.MARK), str):
                found.append(event)
    return found


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
