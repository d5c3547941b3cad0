"""A runtime for a device that has only Python: wheels chosen and fetched here, unpacked there.

Neither pip, nor a virtual environment, nor the internet is needed on the device: a wheel is a zip file, and Python can
unpack one. What is unpacked lies in one folder of edgeq's own, so nothing of the system changes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.device.runners.base import runner_of
from edgeq.device.runners.python import PROVISIONED
from edgeq.device.transport import ShellTransport
from edgeq.device.userland import RUNTIMES
from edgeq.errors import ConfigError, NoRuntimeError
from edgeq.scratch import scratch

__all__ = ["plan", "provision"]

_TIMEOUT = 600.0


def plan(name: str, facts: Mapping[str, Any]) -> list[str]:
    """What is missing on the device `name`, each with the line that fixes it; empty when it can run something."""
    machine = facts["machine"]
    if "abis" in machine:
        return _android(facts)
    steps = []
    if machine["bits"] != 64 or machine["architecture"] not in ("aarch64", "x86_64"):
        steps.append(f"a 64-bit system is needed, this one is {machine['architecture']}: install the 64-bit image")
    version = tuple(int(part) for part in machine["python"].split(".")[:2])
    if version < (3, 9):
        steps.append(f"Python 3.9 or later is needed, this is {machine['python']}: sudo apt-get install python3.11")
    if not any(runtime["works"] for runtime in facts["runtimes"].values()):
        steps.append(f"no runtime: edgeq device provision {shlex.quote(name)}")
    if facts["free_bytes"] < 300 * 2**20:
        steps.append(f"{facts['free_bytes'] // 2**20} MiB free, a runtime takes up to 300: remove something there")
    return steps


def _android(facts: Mapping[str, Any]) -> list[str]:
    """The steps for a phone. Nothing is installed there: the tool that runs files is pushed when it is used."""
    steps = []
    tool = facts["runtimes"]["benchmark_model"]
    if not tool["works"]:
        abi = (facts["machine"]["abis"] or ["its processor"])[0]
        steps.append(f"benchmark_model: {tool['why']}; docs/how-to/devices.md says where a build for {abi} comes from")
    if facts["free_bytes"] is not None and facts["free_bytes"] < 100 * 2**20:
        steps.append(
            f"{facts['free_bytes'] // 2**20} MiB free, models and results may take 100: remove something there"
        )
    return steps


def provision(device: ShellTransport, facts: Mapping[str, Any], runtime: str) -> str:
    """Put `runtime` with its numpy on the device that `facts` (from a probe) describe. Returns its folder there.

    Raises `DeviceError`, also when there are no wheels for its Python, processor or C library, and `ConfigError` for an
    Android device, which needs none.
    """
    if not runner_of(device).can_provision:
        raise ConfigError(
            f"nothing is installed on {device.name}",
            why=f"{device.runner} is pushed when it is used",
            hint=f"edgeq device probe {device.name}",
        )
    if runtime not in RUNTIMES:
        raise NoRuntimeError(f"no runtime {runtime!r}", hint=", ".join(RUNTIMES))
    target = f"{device.root}/{PROVISIONED}/{runtime}"
    with scratch() as folder:
        _download(folder, facts["machine"], runtime, device.name)
        wheels = [device.push(wheel, wheel.name) for wheel in sorted(folder.glob("*.whl"))]
        fresh = f"{device.job}/{runtime}"
        script = "import sys, zipfile\nfor name in sys.argv[2:]:\n    zipfile.ZipFile(name).extractall(sys.argv[1])"
        # While `folder` is there: on this machine the wheels are read where they lie.
        done = device.run([*device.python, "-c", script, fresh, *wheels], timeout=_TIMEOUT)
    if done.status == 0:
        staging, destination = shlex.quote(fresh), shlex.quote(target)
        spent = " ".join(shlex.quote(str(Path(wheel).parent)) for wheel in wheels)
        done = device.execute(
            f"mkdir -p {shlex.quote(str(Path(target).parent))} && rm -rf {destination} "
            f"&& mv {staging} {destination} && rm -rf {spent}"
        )
    if done.status:
        raise NoRuntimeError(
            f"{runtime} could not be unpacked on the device",
            where=device.name,
            why=done.last_words,
            hint="it needs about 300 MiB of free space there",
        )
    return target


def _download(folder: Path, machine: Mapping[str, Any], runtime: str, where: str) -> None:
    """The newest wheels the device's Python, processor and C library can load. pip's own settings name the index."""
    version = ".".join(machine["python"].split(".")[:2])
    glibc = re.search(r"glibc 2\.([0-9]{1,2})\b", machine["libc"])
    newest = int(glibc.group(1)) if glibc else 17
    architecture = machine["architecture"]
    names = [f"manylinux_2_{minor}_{architecture}" for minor in range(17, newest + 1)]
    platforms = [word for name in [f"manylinux2014_{architecture}", *names] for word in ("--platform", name)]
    # Only tflite-runtime was built against numpy 1, which Python 3.13 has no wheels of.
    options = [
        "numpy" if need.startswith("numpy") and runtime != "tflite-runtime" else need for need in RUNTIMES[runtime]
    ]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--dest",
            str(folder),
            "--no-deps",
            "--only-binary",
            ":all:",
            *platforms,
            "--python-version",
            version,
            "--implementation",
            "cp",
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        errors="replace",
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NoRuntimeError(
            f"there is no {runtime} for this device",
            where=where,
            why=f"Python {version}, {architecture}, {machine['libc'] or 'no glibc'}: {lines[-1] if lines else ''}",
            hint="try another of " + ", ".join(RUNTIMES),
        )
