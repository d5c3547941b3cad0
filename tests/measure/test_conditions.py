"""Machines as folders: what is read of each, and what is not invented where nothing can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.measure import conditions
from edgeq.measure.conditions import this_machine

X86 = "model name\t: Some Xeon\nflags\t\t: fpu avx2 avx512f avx512_vnni hypervisor\n\nmodel name\t: Some Xeon\n"
PI4 = (
    "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
    "\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
)
PI5 = "Features\t: fp asimd asimdhp asimddp\nCPU part\t: 0xd0b\n"
PHONE = "Features : asimd asimddp i8mm\nCPU part : 0xd05\n\nCPU part : 0xd41\n\nCPU part : 0xfff\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def machine(root: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> conditions.Machine:
    monkeypatch.setattr(conditions.platform, "machine", lambda: architecture)
    return this_machine(root)


def test_an_x86_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(tree(tmp_path, {"proc/cpuinfo": X86, ".dockerenv": ""}), monkeypatch, "x86_64")
    assert found.cpu == "Some Xeon"
    assert found.flags == ("avx2", "avx512f", "avx512_vnni")
    assert (found.vnni, found.virtual, found.container, found.emulated) == (True, True, "docker", False)
    assert "Some Xeon (x86_64," in found.line


def test_without_vnni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = X86.replace(" avx512_vnni", "")
    assert not machine(tree(tmp_path, {"proc/cpuinfo": plain}), monkeypatch, "x86_64").vnni


@pytest.mark.parametrize(
    ("cpuinfo", "board", "cpu", "flags"),
    [
        (PI4, "", "Raspberry Pi 4 Model B Rev 1.4, Cortex-A72", ("asimd",)),
        (PI5, "Raspberry Pi 5 Model B\0", "Raspberry Pi 5 Model B, Cortex-A76", ("asimd", "asimdhp", "asimddp")),
        (PHONE, "", "Cortex-A55 + Cortex-A78 + Arm part 0xfff", ("asimd", "asimddp", "i8mm")),
    ],
)
def test_arm_boards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, board: str, cpu: str, flags: tuple[str, ...]
) -> None:
    files = {"proc/cpuinfo": cpuinfo} | ({"proc/device-tree/model": board} if board else {})
    found = machine(tree(tmp_path, files), monkeypatch, "aarch64")
    assert (found.cpu, found.flags, found.emulated) == (cpu, flags, False)


@pytest.mark.parametrize(
    ("files", "architecture"),
    [
        ({"proc/cpuinfo": "vendor_id : AuthenticAMD\n"}, "aarch64"),
        ({"proc/sys/kernel/arch": "x86_64\n"}, "aarch64"),
        ({"sys/devices/system/cpu/modalias": "cpu:type:x86,ven0002fam0019\n"}, "armv7l"),
        ({"proc/cpuinfo": "model name : QEMU TCG CPU version 2.5+\n"}, "x86_64"),
    ],
)
def test_emulation_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], architecture: str
) -> None:
    assert machine(tree(tmp_path, files), monkeypatch, architecture).emulated


@pytest.mark.parametrize(("host", "seen"), [("aarch64", "armv8l"), ("x86_64", "i686"), ("x86_64", "x86_64")])
def test_a_narrower_mode_of_the_same_processor_is_no_emulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, seen: str
) -> None:
    assert not machine(tree(tmp_path, {"proc/sys/kernel/arch": host}), monkeypatch, seen).emulated


def test_nothing_readable_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine(tmp_path, monkeypatch, "riscv64")
    assert (found.flags, found.governor, found.container, found.emulated) == ((), None, None, False)
    assert found.cpu


def test_this_machine_as_json_names_no_host() -> None:
    import platform

    text = json.dumps(this_machine().to_json())
    assert platform.node() not in text or not platform.node()
