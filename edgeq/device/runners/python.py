"""The agent on a device that has Python: packed into one file, pushed, asked, and its answers judged here."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import secrets
import signal
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.device.answers import read_answer
from edgeq.device.runners import agent
from edgeq.device.runners.base import RUNNERS, Pace, Runner, Setup, damaged_error
from edgeq.device.transport import ShellTransport
from edgeq.errors import DeviceError, NoRuntimeError
from edgeq.measure.energy import energy_facts
from edgeq.measure.latency import latency_facts
from edgeq.measure.validity import doubts

__all__ = ["PROVISIONED", "PythonRunner", "agent_digest", "pack_agent"]

PROVISIONED = "runtimes"
"""The folder, below edgeq's on a device, of the runtimes that `edgeq device provision` put there."""

LARGEST_OUTPUT = 1 << 32
"""Bytes of outputs that are fetched from a device."""

_START = "import runpy\nrunpy.run_module('edgeq_agent', run_name='__main__')\n"


@functools.cache
def pack_agent() -> bytes:
    """The agent as one file that Python runs: a zip archive, the same bytes for the same sources."""
    buffer = io.BytesIO()
    sources = {path.name: path.read_bytes() for path in sorted(Path(agent.__file__).parent.glob("*.py"))}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in sources.items():
            archive.writestr(zipfile.ZipInfo(f"edgeq_agent/{name}"), data)
        archive.writestr(zipfile.ZipInfo("__main__.py"), _START)
    return buffer.getvalue()


def agent_digest() -> str:
    """sha256 of the agent."""
    return hashlib.sha256(pack_agent()).hexdigest()


@RUNNERS.register("python")
class PythonRunner(Runner):
    """The agent, by the device's Python."""

    runtimes = tuple(agent.RUNTIMES)
    can_provision = True

    def probe(self, *, program: Path | None = None, timeout: float = 300.0) -> dict[str, Any]:
        return self._ask(["probe"], timeout)

    def evaluate(
        self,
        model: Path,
        batch: npt.NDArray[Any],
        setup: Setup,
        *,
        timeout: float,
        expected: Sequence[npt.NDArray[Any]] | None = None,
    ) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
        device, buffer = self.device, io.BytesIO()
        np.save(buffer, np.ascontiguousarray(batch), allow_pickle=False)
        outputs = f"{device.job}/outputs.bin"
        request = _request(setup) | {
            "model": device.push(model, model.name),
            "inputs": device.push(buffer.getvalue(), "inputs.npy"),
            "outputs": outputs,
        }
        facts = self._ask(["eval"], timeout, request)
        kinds = [(tuple(each["shape"]), np.dtype(each["dtype"])) for each in facts["arrays"]]
        if expected is not None and kinds != [(array.shape, array.dtype) for array in expected]:
            raise damaged_error(device, "its outputs have other shapes or types than the file's")
        size = sum(math.prod(shape) * kind.itemsize for shape, kind in kinds)
        if facts["images"] != len(batch) or size > LARGEST_OUTPUT:
            raise damaged_error(device, f"{facts['images']} images and {size} bytes of outputs")
        data = device.pull(outputs, most=size)
        if len(data) != size or facts["sha256"] != hashlib.sha256(data).hexdigest():
            raise damaged_error(device, "its outputs are not those it names")
        found, start = [], 0
        for shape, kind in kinds:
            end = start + math.prod(shape) * kind.itemsize
            found.append(np.frombuffer(data[start:end], kind).reshape(shape))
            start = end
        return found, facts

    def bench(self, model: Path, baseline: Path | None, setup: Setup, pace: Pace) -> dict[str, Any]:
        device = self.device
        request = _request(setup) | {
            "model": device.push(model, model.name),
            "float": device.push(baseline, baseline.name) if baseline else None,
            "least": pace.least,
            "most": pace.most,
            "seconds": pace.seconds,
            "longest": pace.timeout / 2,
            "warmup": pace.warmup,
            "cooldown": pace.cooldown,
            "energy": pace.energy,
        }
        began = time.monotonic()
        facts = self._ask(["bench"], pace.timeout, request)
        elapsed = time.monotonic() - began
        samples = facts["samples"]
        if set(samples) != {"model", *(["float"] if baseline else [])} or len({*map(len, samples.values())}) > 1:
            raise damaged_error(device, "it did not time each file as often")
        own, base = samples["model"], samples.get("float", [])
        reasons = doubts(facts["machine"], facts["before"], facts["after"], base, own)
        timed = facts["inferences_per_run"] * sum(map(sum, samples.values())) / 1000
        if timed > elapsed:
            reasons.append(f"its timings add up to {timed:.1f} s, and {elapsed:.1f} s passed here")
        if power := facts.pop("power"):
            loads = power.get("loads", {})
            if loads and (set(loads) != set(samples) or sum(load["seconds"] for load in loads.values()) > elapsed):
                raise damaged_error(device, "the power it gives is not that of the files it timed")
            facts["energy"] = energy_facts(power)
        latency = latency_facts(
            base, own, inferences=facts["inferences_per_run"], threads=facts["threads"], doubts=reasons
        )
        facts |= {
            "latency": latency,
            "doubts": reasons,
            "valid": not reasons,
            "expect_no_gain": not facts["machine"]["dot_product"],
        }
        if facts["machine"]["emulated"]:
            return {key: value for key, value in facts.items() if key != "samples"} | {
                "latency": None,
                "peak_bytes": None,
            }
        return facts

    def _ask(self, words: list[str], timeout: float, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the agent there and return its result. Whatever else is printed there is ignored."""
        device = self.device
        path = device.push(pack_agent(), "agent.pyz")
        if request is not None:
            words = [*words, device.push(json.dumps(request, sort_keys=True).encode(), "request.json")]
        runtimes = f"{device.root}/{PROVISIONED}"
        given = device.environment.get("PYTHONPATH", "")
        wanted = f"{runtimes}/{request['runtime']}" if request else ""
        environment = {
            "EDGEQ_RUNTIMES": runtimes,
            "PYTHONPATH": ":".join(path for path in (wanted, given) if path),
            "EDGEQ_PYTHON": json.dumps(list(device.python)),
            "OMP_NUM_THREADS": str((request or {}).get("threads", 1)),
        }
        token = secrets.token_hex(16)
        command = [*device.python, path, *words, "--job", token, "--tied"]
        done = device.run(command, timeout=timeout, environment=environment)
        answer = read_answer(done.stdout, words[0], token, device.name)
        if answer is None or done.status:
            raise _no_answer(device, done.status, done.last_words)
        return answer


def _request(setup: Setup) -> dict[str, Any]:
    return {
        "runtime": setup.runtime,
        "kernels": setup.kernels,
        "threads": setup.threads,
        "session": dict(setup.session),
    }


def _no_answer(device: ShellTransport, status: int, printed: str) -> DeviceError:
    foreign = "ELF" in printed  # what a shell says that takes another processor's program for a script
    if status == 126 or (status == 127 and foreign):
        return NoRuntimeError(
            "Python does not start on the device",
            where=device.name,
            why="it is no program for this processor" if foreign else printed,
            hint="install a Python for its processor there: sudo apt-get install --reinstall python3",
        )
    if status == 127:
        return NoRuntimeError(
            "there is no Python on the device",
            where=device.name,
            why=printed,
            hint="sudo apt-get install python3 python3-venv, there",
        )
    if status in (132, -4):
        return NoRuntimeError(
            "the runtime on the device uses instructions its processor lacks",
            where=device.name,
            hint="install a build for this processor: edgeq device provision",
        )
    if status in (134, 135, 136, 139, -6, -7, -8, -11):
        return DeviceError(
            "the runtime on the device crashed on this file",
            where=device.name,
            why=f"ended by {signal.Signals(status - 128 if status > 0 else -status).name}",
            hint="it is damaged, or this runtime has a fault: try another version of it",
        )
    if status in (137, -9):
        return DeviceError(
            "the agent was killed on the device",
            where=device.name,
            why="out of memory, or by somebody",
            hint="free some memory there, then run again",
        )
    return DeviceError(
        "the agent on the device gave no answer",
        where=device.name,
        why=printed or f"exit status {status}",
        hint="run again; edgeq device probe tells what is there",
    )
