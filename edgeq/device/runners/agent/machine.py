"""What this machine is, and what it is doing: read from `/proc` and `/sys`, None or nothing where they do not say.

`root` is where `proc` and `sys` are, for tests.
"""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from typing import Any

DOT_PRODUCT = ("asimddp", "avx_vnni", "avx512_vnni")
"""Words of the `Features` or `flags` line of /proc/cpuinfo: 8-bit products are summed in one instruction."""


def text(path: str) -> str | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ") or None
    except OSError:
        return None


def number(path: str) -> int | None:
    content = text(path)
    return int(content) if content and re.fullmatch(r"-?\d+", content) else None


def per_core(name: str, root: str = "/") -> dict[int, int]:
    """Values of a file of every core's folder, by core number; cores that lack it are left out."""
    values = {}
    for path in glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*", name)):
        value = number(path)
        core = re.search(r"/cpu(\d+)/", path)
        if value is not None and core:
            values[int(core.group(1))] = value
    return dict(sorted(values.items()))


def big_cores(root: str = "/") -> list[int]:
    """Core numbers of the fastest kind: those of highest capacity, else of highest clock; all when none is said."""
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = per_core(name, root)
        if speeds:
            return [core for core, value in speeds.items() if value == max(speeds.values())]
    return []


def pin(threads: int, root: str = "/") -> list[int]:
    """Keep to the fastest cores, when they are enough for `threads`. Returns the cores used."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    cores = set(big_cores(root)) & allowed
    if len(cores) >= threads and cores != allowed:
        with contextlib.suppress(OSError):  # a container may forbid it; then it is recorded as it is
            os.sched_setaffinity(0, cores)
    return sorted(os.sched_getaffinity(0))


def emulated(root: str = "/") -> str | None:
    """The processor this pretends to be, where another kind of processor does the work; else None.

    QEMU's user mode changes what `uname` says, but not all that the kernel says of the processor below. Full emulation
    without hardware help names itself TCG or QEMU.
    """
    named = os.environ.get("EDGEQ_EMULATED")
    if named:
        return named
    real, seen = text(os.path.join(root, "proc/sys/kernel/arch")), platform.machine()
    alias = text(os.path.join(root, "sys/devices/system/cpu/modalias")) or ""
    cpuinfo = text(os.path.join(root, "proc/cpuinfo")) or ""
    arm = seen.startswith(("aarch64", "arm"))
    other = real is not None and family(real) != family(seen)
    other = other or (":x86" in alias if arm else "type:arm" in alias)
    other = other or (arm and re.search("GenuineIntel|AuthenticAMD", cpuinfo) is not None)
    return "another processor" if other or re.search(r"\bTCG\b|QEMU Virtual CPU", cpuinfo) else None


def family(architecture: str) -> str:
    if architecture.startswith(("arm", "aarch64")):
        return "arm"
    return "x86" if re.fullmatch(r"x86_64|amd64|AMD64|i[3-6]86", architecture) else architecture


def processor(cpuinfo: str) -> dict[str, Any]:
    """What the text of /proc/cpuinfo says: a name if any, the parts of its cores, the instructions that matter."""
    facts: dict[str, str] = {}
    parts: dict[str, None] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
        if key.strip() == "CPU part":
            parts[value.strip()] = None
    flags = (facts.get("Features") or facts.get("flags") or "").split()
    return {
        "name": facts.get("model name") or facts.get("Hardware"),
        "parts": list(parts),
        "flags": [flag for flag in flags if flag.startswith(("asimd", "i8mm", "sve", "avx", "crc32", "fphp"))],
        "dot_product": any(flag in flags for flag in DOT_PRODUCT),
    }


def machine(root: str = "/") -> dict[str, Any]:
    """What does not change while measuring."""
    facts = processor(text(os.path.join(root, "proc/cpuinfo")) or "")
    board = text(os.path.join(root, "proc/device-tree/model"))
    return {
        "cpu": board or facts["name"] or platform.machine(),
        "parts": facts["parts"],
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "big_cores": big_cores(root),
        "flags": facts["flags"],
        "dot_product": facts["dot_product"],
        "system": "%s %s" % (platform.system(), platform.release().split("-")[0]),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "emulated": emulated(root),
    }


def throttled() -> int | None:
    """Raspberry Pi's word on heat and power, or None."""
    if not shutil.which("vcgencmd"):
        return None
    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"throttled=(0x[0-9a-fA-F]+)", done.stdout)
    return int(match.group(1), 16) if match else None


def moment(root: str = "/") -> dict[str, Any]:
    """What the machine is doing now: two of them tell what it did between.

    `clock` is seconds; `own`, `busy` and `stolen` are seconds of processor time that this process used, that all
    programs used, and that a hypervisor took; `heat_events` counts what x86 processors did against heat.
    """
    temperatures = [number(p) for p in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*/temp"))]
    degrees = [value / 1000 for value in temperatures if value is not None]
    governors = {}
    for path in glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")):
        governors[path.split("/")[-3]] = text(path)
    first = (text(os.path.join(root, "proc/stat")) or "").split("\n")[0].split()[1:9]
    busy = stolen = None
    if len(first) == 8 and all(word.isdigit() for word in first):
        user, nice, system, _idle, _wait, irq, soft, steal = (int(word) / os.sysconf("SC_CLK_TCK") for word in first)
        busy, stolen = user + nice + system + irq + soft, steal
    return {
        "clock": time.monotonic(),
        "own": time.process_time(),
        "busy": busy,
        "stolen": stolen,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "frequency_khz": per_core("cpufreq/scaling_cur_freq", root),
        "governors": dict(sorted(governors.items())),
        "temperature_c": max(degrees) if degrees else None,
        "throttled": throttled(),
        "heat_events": sum(per_core("thermal_throttle/core_throttle_count", root).values()),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    }
