"""What a benchmark's numbers depend on, as one line without names or paths of the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def conditions() -> str:
    """Processor, cores, the instruction sets int8 kernels care about, clock governor, load average."""
    info = _cpuinfo()
    flags = info.get("flags", info.get("Features", "")).split()
    sets = [name for name in ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimddp", "i8mm") if name in flags]
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    clock = governor.read_text().strip() if governor.exists() else "not visible"
    virtual = ", virtual machine" if "hypervisor" in flags else ""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    model = info.get("model name", platform.processor() or "processor unknown")
    return (
        f"{model} ({platform.machine()}{virtual}), {os.cpu_count()} cores, {' '.join(sets) or 'no listed SIMD sets'}, "
        f"governor {clock}, load average {load}"
    )


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
