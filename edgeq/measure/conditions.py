"""The machine that this runs on. What it is doing while files are timed is read by the runner that times them.

Everything is read from `/proc` and `/sys` where they are, and None where they are not. No name, address or path of the
machine is ever read.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FLAGS", "Machine", "this_machine"]

ROOT = Path("/")

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimdhp", "asimddp", "i8mm", "sve")
"""Instruction sets that int8 and float kernels choose between."""

_ARM_CORES = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
"""MIDR part numbers of Arm's own cores, from its technical reference manuals."""


@dataclass(frozen=True)
class Machine:
    """What does not change while measuring. `flags` are those of `FLAGS` the processor has; None is *not readable*.

    `emulated` means that another kind of processor pretends to be this one: right for correctness, wrong for time.
    """

    cpu: str
    architecture: str
    cores: int
    flags: tuple[str, ...]
    governor: str | None
    platform: str
    python: str
    virtual: bool
    container: str | None
    emulated: bool

    @property
    def vnni(self) -> bool:
        """Whether 8-bit products are summed without saturating on the way (x86)."""
        return bool({"avx_vnni", "avx512_vnni", "amx_int8"} & set(self.flags))

    @property
    def line(self) -> str:
        """The machine in one line for a person."""
        where = [self.architecture, f"{self.cores} core{'s' if self.cores != 1 else ''}"]
        where += ["virtual machine"] if self.virtual else []
        where += [f"{self.container} container"] if self.container else []
        where += ["emulated"] if self.emulated else []
        return f"{self.cpu} ({', '.join(where)})"

    def to_json(self) -> dict[str, Any]:
        return {"machine": self.line, "vnni": self.vnni} | dataclasses.asdict(self) | {"flags": list(self.flags)}


def this_machine(root: Path = ROOT) -> Machine:
    """The machine this runs on. `root` is where `proc` and `sys` are, for tests."""
    first, parts = _cpuinfo(root)
    words = (first.get("flags") or first.get("Features") or "").split()
    architecture = platform.machine() or "unknown"
    return Machine(
        cpu=_processor(root, first, parts),
        architecture=architecture,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        flags=tuple(name for name in FLAGS if name in words),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        platform=" ".join([platform.system(), *re.findall(r"^[\d.]+\d", platform.release())]),
        python=platform.python_version(),
        virtual="hypervisor" in words,
        container=_container(root),
        emulated=_emulated(root, first, architecture),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpuinfo(root: Path) -> tuple[Mapping[str, str], list[str]]:
    """Facts of the first processor, and the distinct Arm part numbers in order (big and little cores differ)."""
    first: dict[str, str] = {}
    parts: dict[str, None] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, separator, value = line.partition(":")
        if separator:
            first.setdefault(key.strip(), value.strip())
            if key.strip() == "CPU part":
                parts[value.strip()] = None
    return first, list(parts)


def _processor(root: Path, first: Mapping[str, str], parts: list[str]) -> str:
    name = first.get("model name") or first.get("Model")
    board = _text(root / "proc/device-tree/model")  # as a Raspberry Pi says who it is
    cores = " + ".join(_ARM_CORES.get(part, f"Arm part {part}") for part in parts)
    named = ", ".join(part for part in (board or name, cores) if part)
    return named or platform.processor() or platform.machine() or "unknown processor"


def _container(root: Path) -> str | None:
    """The kind of container this runs in, where it shows."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = _text(root / "proc/1/cgroup") or ""
    match = re.search(r"kubepods|docker|lxc|containerd", groups)
    return match.group() if match else None


def _emulated(root: Path, first: Mapping[str, str], architecture: str) -> bool:
    """QEMU's user mode changes what `uname` says but not all the kernel says of the real processor below.

    `proc/sys/kernel/arch` exists since Linux 6.1. Full emulation without hardware help names itself TCG or QEMU.
    """
    host = _text(root / "proc/sys/kernel/arch")
    alias = _text(root / "sys/devices/system/cpu/modalias") or ""
    arm = architecture.startswith(("aarch64", "arm"))
    other_kernel = host is not None and _family(host) != _family(architecture)
    other_alias = (arm and ":x86" in alias) or (not arm and "type:arm" in alias)
    other_cpuinfo = arm and first.get("vendor_id") in ("GenuineIntel", "AuthenticAMD")
    named = re.search(r"\bTCG\b|QEMU Virtual CPU", first.get("model name", "")) is not None
    return other_kernel or other_alias or other_cpuinfo or named


def _family(architecture: str) -> str:
    if architecture.startswith(("arm", "aarch64")):
        return "arm"
    return "x86" if re.fullmatch(r"x86_64|amd64|AMD64|i[3-6]86", architecture) else architecture
