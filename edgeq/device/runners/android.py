"""What an Android device is and what it is doing: its properties, cores, clocks, heat and battery, over its shell.

One command fetches everything of a kind, since every command costs a round trip; each part is optional, since vendors
leave out what they like.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from edgeq.device.runners.agent.machine import processor
from edgeq.device.transport import ShellTransport
from edgeq.measure.validity import MOST_CLOCK_CHANGE

__all__ = ["add_clock_limits", "doubts", "fast_cores", "machine", "mask", "moment"]

Facts = dict[str, Any]

THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's words for how hard it slows itself down (``Temperature.ThrottlingStatus``)."""

_DEGREES = (0, 1, 2, 3, 9)
"""Temperature types in degrees: processor, graphics, battery, skin, neural processor. Others are volts and amperes."""

LOW_BATTERY = 15
"""Percent at which Android starts to save energy."""

_TICKS = 100
"""Ticks of /proc/stat in a second, the same on every Android."""

_TEMPERATURE = r"Temperature\{mValue=(-?[0-9]{1,6}(?:\.[0-9]{1,9})?), mType=(-?[0-9]{1,4})\b"

_MARK = "@edgeq"

LONGEST = 2000
"""Characters of a line of an answer that are looked at."""

_PARTS = {
    "properties": "getprop",
    "machine": "uname -m",
    "kernel": "uname -r",
    "cpuinfo": "cat /proc/cpuinfo",
    "pinning": "command -v taskset",
}

_MOMENT = {
    "uptime": "cat /proc/uptime",
    "stat": "head -n 1 /proc/stat",
    "load": "cat /proc/loadavg",
    "thermal": "dumpsys thermalservice",
    "battery": "dumpsys battery",
    "saver": "settings get global low_power",
}

_CORES = "/sys/devices/system/cpu/cpu[0-9]*"


def machine(device: ShellTransport) -> Facts:
    """What does not change while measuring: the keys of the agent's `machine`, and Android's own."""
    answers = _ask(device, {**_PARTS, "free": f"df -k {shlex.quote(device.root)}"})
    properties = dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]$", answers["properties"], re.MULTILINE))
    cpu = processor(answers["cpuinfo"])
    speeds = _per_core(device, ("cpu_capacity", "cpufreq/cpuinfo_max_freq"))
    abis = [abi for abi in properties.get("ro.product.cpu.abilist", "").split(",") if abi]
    emulated = "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))
    names = [properties.get(f"ro.product.{key}", "") for key in ("manufacturer", "model")]
    cores = sorted({core for values in speeds.values() for core in values})
    return {
        "cpu": properties.get("ro.soc.model")
        or cpu["name"]
        or properties.get("ro.board.platform")
        or answers["machine"],
        "parts": cpu["parts"],
        "architecture": answers["machine"],
        "cores": len(cores) or None,
        "big_cores": fast_cores(speeds),
        "flags": cpu["flags"],
        "dot_product": cpu["dot_product"],
        "system": f"Android {properties.get('ro.build.version.release', '?')}, Linux {answers['kernel'].split('-')[0]}",
        "libc": "bionic",
        "python": None,
        "bits": 64 if any("64" in abi for abi in abis) else 32,
        "emulated": "Android's emulator" if emulated else None,
        "model": " ".join(name for name in names if name),
        "device": properties.get("ro.product.device"),
        "sdk": _number(properties.get("ro.build.version.sdk", "")),
        "abis": abis,
        "pinning": bool(answers["pinning"]),
        "free_bytes": _free(answers["free"]),
    }


def moment(device: ShellTransport, *, own: float = 0.0, affinity: Sequence[int] = ()) -> Facts:
    """What it is doing now. `own` is how many seconds of processor time edgeq's programs have taken there so far."""
    answers = _ask(device, _MOMENT)
    cores = _per_core(device, ("cpufreq/scaling_cur_freq", "cpufreq/scaling_max_freq", "cpufreq/cpuinfo_max_freq"))
    governors = _per_core(device, ("cpufreq/scaling_governor",), words=True)["cpufreq/scaling_governor"]
    ticks = [tick for word in answers["stat"].split()[1:9] if (tick := _number(word)) is not None]
    busy = stolen = None
    if len(ticks) == 8:
        user, nice, system, _idle, _wait, irq, soft, steal = (tick / _TICKS for tick in ticks)
        busy, stolen = user + nice + system + irq + soft, steal
    status = re.search(r"Thermal Status: ([0-9]{1,3})", answers["thermal"])
    return {
        "clock": _decimal(answers["uptime"]) or 0.0,
        "own": own,
        "busy": busy,
        "stolen": stolen,
        "load": _decimal(answers["load"]),
        "frequency_khz": cores["cpufreq/scaling_cur_freq"],
        "limit_khz": cores["cpufreq/scaling_max_freq"],
        "fastest_khz": cores["cpufreq/cpuinfo_max_freq"],
        "governors": {f"cpu{core}": name for core, name in governors.items()},
        "temperature_c": max(_temperatures(answers["thermal"]), default=None),
        "thermal_status": int(status[1]) if status else None,
        "battery": _battery(answers["battery"]),
        "battery_saver": {"0": False, "1": True}.get(answers["saver"]),
        "throttled": None,
        "affinity": list(affinity),
    }


def add_clock_limits(moment: Facts) -> Facts:
    """`moment` with the limit on each clock in its place.

    The clock at rest says nothing about the clock under load; the limit on it, which heat lowers, does.
    """
    return moment | {"frequency_khz": moment["limit_khz"]}


def doubts(before: Facts, after: Facts) -> list[str]:
    """What Android says against timings that were taken between two moments, a sentence each."""
    reasons = []
    used = set(after["affinity"])
    for core, limit in after["limit_khz"].items():
        fastest = after["fastest_khz"].get(core, limit)
        if (not used or core in used) and limit < (1 - MOST_CLOCK_CHANGE) * fastest:
            reasons.append(f"the clock of core {core} is held at {limit // 1000} of {fastest // 1000} MHz")
            break
    status = max(before["thermal_status"] or 0, after["thermal_status"] or 0)
    if status:
        word = THERMAL_STATUS[min(status, len(THERMAL_STATUS) - 1)]
        reasons.append(f"Android slows itself down because of heat (thermal status {status}, {word})")
    if before["battery_saver"] or after["battery_saver"]:
        reasons.append("battery saver is on")
    battery = after["battery"]
    if battery["percent"] is not None and battery["percent"] <= LOW_BATTERY and not battery["charging"]:
        reasons.append(f"the battery is at {battery['percent']} %")
    return reasons


def fast_cores(speeds: Mapping[str, Mapping[int, int]]) -> list[int]:
    """Core numbers of the fastest kind, from values per core: the first kind of value that is known decides."""
    for values in speeds.values():
        if values:
            return [core for core, value in values.items() if value == max(values.values())]
    return []


def mask(cores: Sequence[int]) -> str:
    """What `taskset` calls a set of cores: bits, in hexadecimal."""
    return f"{sum(1 << core for core in cores):x}"


def _ask(device: ShellTransport, questions: Mapping[str, str]) -> dict[str, str]:
    """What each command printed, stripped; empty where it failed or is not there."""
    command = "; ".join(
        f"echo; echo '{_MARK} {name}'; ( {question} ) 2>/dev/null" for name, question in questions.items()
    )
    text = device.execute(f"{command}; true").stdout.decode(errors="replace").replace("\r\n", "\n")
    lines = "\n".join(line[:LONGEST] for line in text.split("\n"))
    parts = re.split(rf"^{_MARK} (\w+)$", lines, flags=re.MULTILINE)
    answers = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    return {name: answers.get(name, "") for name in questions}


def _per_core(device: ShellTransport, names: Sequence[str], *, words: bool = False) -> dict[str, dict[int, Any]]:
    """Values of files of every core's folder, by file and core number; cores that lack a file are left out."""
    files = " ".join(f"{_CORES}/{name}" for name in names)
    done = device.execute(f'for f in {files}; do [ -r "$f" ] && echo "$f $(cat "$f")"; done; true')
    found: dict[str, dict[int, Any]] = {name: {} for name in names}
    for line in done.stdout.decode(errors="replace").splitlines():
        row = re.search(r"/cpu([0-9]{1,4})/(\S+) (\S+)", line)
        value = row[3][:LONGEST] if row and words else _number(row[3]) if row else None
        if row and row[2] in found and value is not None:
            found[row[2]][int(row[1])] = value
    return {name: dict(sorted(values.items())) for name, values in found.items()}


def _temperatures(thermal: str) -> list[float]:
    """Degrees now, not those Android remembers."""
    _, _, now = thermal.partition("Current temperatures from HAL:")
    rows = re.findall(_TEMPERATURE, now.partition("Current cooling devices")[0])
    return [float(value) for value, kind in rows if int(kind) in _DEGREES]


def _battery(text: str) -> Facts:
    values = dict(re.findall(r"^ *([A-Za-z ]+): (\S+)$", text, re.MULTILINE))
    level, scale, tenths = (_number(values.get(key, "")) for key in ("level", "scale", "temperature"))
    powered = [key for key, value in values.items() if key.endswith("powered") and value == "true"]
    return {
        "percent": round(100 * level / scale) if level is not None and scale else None,
        "temperature_c": tenths / 10 if tenths is not None else None,
        "charging": bool(powered) if values else None,
        "source": powered[0].removesuffix(" powered") if powered else None,
    }


def _free(text: str) -> int | None:
    """Available bytes, out of `df -k`."""
    lines = text.splitlines()
    cells = lines[-1].split() if len(lines) > 1 else []
    free = _number(cells[3]) if len(cells) > 3 else None
    return None if free is None else free * 1024


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,15}", text) else None


def _decimal(text: str) -> float | None:
    match = re.match(r"[0-9]{1,15}(\.[0-9]{1,15})?", text)
    return float(match[0]) if match else None
