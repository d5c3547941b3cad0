"""Time one file, or the two files of a build in turns, on one device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeq.device.job import Pace, bench
from edgeq.device.open import full_name, open_device
from edgeq.pipeline.ondevice import find_artifact, setup_for
from edgeq.report.device import slow_here

__all__ = ["bench_artifact"]

ENERGY = 3.0
"""Seconds under load, at most, in which a board's power is read."""


def bench_artifact(
    path: Path,
    device: str,
    *,
    runtime: str | None = None,
    threads: int = 1,
    seconds: float = 4.0,
    cooldown: float = 0.0,
    timeout: float = 900.0,
    wait: float = 0.0,
    program: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time the build or file at `path` on `device`. Returns a row of ``edgeq bench --json``.

    `seconds` is given to the measurement, after `cooldown` seconds of rest; the device may take `timeout` seconds, and
    `wait` seconds are spent waiting for a busy one. `program` is Android's runner; `say` hears what begins. Raises
    `EdgeqError`.
    """
    artifact = find_artifact(path)
    setup = setup_for(artifact, runtime, threads, program)
    name = full_name(device)
    say(f"{artifact.name} on {name}")
    with open_device(name, runtime=setup.runtime, patience=wait, why=f"timing {artifact.name}", say=say) as opened:
        pace = Pace(seconds=seconds, cooldown=cooldown, energy=min(seconds, ENERGY), timeout=timeout)
        facts = bench(opened, artifact.model, artifact.baseline, setup, pace)
    kept = {key: value for key, value in facts.items() if key != "edgeq"}
    form, activations = artifact.model.suffix.removeprefix("."), "int8" if artifact.entry.signed else "uint8"
    if slow := slow_here(facts["machine"]["architecture"], form, activations):
        kept["notes"] = [*kept.get("notes", ()), slow]
    return {"artifact": artifact.name, "device": name} | kept
