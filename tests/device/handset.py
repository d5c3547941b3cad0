"""What a phone's disk and shell hold, as far as anybody asks: a folder, files of /proc and /sys, a few programs.

The programs print what Android's own print; the files they read can be changed by a test. Its shell and its small tools
are Android's own, mksh and toybox, where they are installed here, else this machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.device.daemon import Phone

PROPERTIES = {
    "ro.product.manufacturer": "Example",
    "ro.product.model": "Test Phone",
    "ro.product.device": "edgeq",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.soc.model": "EX1000",
}

THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 0
Cached temperatures:
\tTemperature{mValue=99.0, mType=0, mName=CPU7, mStatus=3}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=43.25, mType=0, mName=CPU7, mStatus=0}
\tTemperature{mValue=4200.0, mType=6, mName=vbat, mStatus=0}
\tTemperature{mValue=29.1, mType=2, mName=battery, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=0, mType=2, mName=thermal-cpufreq-0}
"""

BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 85
  scale: 100
  voltage: 4200
  temperature: 291
  technology: Li-ion
"""

CPUINFO = "".join(
    f"processor\t: {core}\nFeatures\t: fp asimd crc32 asimddp\nCPU part\t: {'0xd41' if core > 3 else '0xd05'}\n\n"
    for core in range(6)
)


def furnish(root: Path) -> Phone:
    """A phone of six cores, 4 and 5 of them fast, whose disk is `root`."""
    programs, state = root / "bin", root / "state"
    for folder in (root / "data/local/tmp", root / "proc", programs, state):
        folder.mkdir(parents=True)
    for core in range(6):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        fast = core > 3
        (folder.parent / "cpu_capacity").write_text("1024\n" if fast else "300\n")
        for name in ("cpuinfo_max_freq", "scaling_cur_freq"):
            (folder / name).write_text("2400000\n" if fast else "1800000\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    (root / "proc/cpuinfo").write_text(CPUINFO)
    (root / "proc/stat").write_text("cpu  100 0 100 10000 0 0 0 0 0 0\n")
    (root / "proc/loadavg").write_text("0.50 0.40 0.30 1/600 4000\n")
    (root / "proc/uptime").write_text("1000.00 5000.00\n")
    (state / "properties").write_text("".join(f"[{key}]: [{value}]\n" for key, value in PROPERTIES.items()))
    (state / "thermalservice").write_text(THERMAL)
    (state / "battery").write_text(BATTERY)
    (state / "low_power").write_text("0\n")
    for name, body in {
        "getprop": f"cat {state}/properties",
        "dumpsys": f'cat {state}/"$1"',
        "settings": f'cat {state}/"$3"',
        # The mask is written down instead of obeyed: this machine's cores are not the phone's.
        "taskset": f'echo "$1" >> {state}/masks; shift; exec "$@"',
        "uname": "echo aarch64",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    settings = {"PATH": f"{programs}:{_tools(root / 'toybox')}:{os.environ['PATH']}", "HOME": "/", "LC_ALL": "C"}
    return Phone(root, settings, shutil.which("mksh") or "/bin/sh")


def _tools(folder: Path) -> Path:
    """`folder`, with a link for each tool toybox is; empty where it is not installed."""
    folder.mkdir()
    toybox = shutil.which("toybox")
    if toybox:
        for name in subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split():
            (folder / name).symlink_to(toybox)
    return folder
