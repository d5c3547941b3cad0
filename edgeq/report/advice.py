"""What to do after reading a report: steps that follow from its numbers, the next one first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.report.charts import POOR

__all__ = ["Step", "steps"]

LARGE_DROP = 1.0
"""Points of top-1 that are worth another attempt."""

GIVEN = ("noise", "uniform", "leaves")
"""Methods that optimise nothing, so that more time would change nothing."""

UNLIKE = 0.95
"""Share of answers that are the float network's, below which 16 bits are worth a thought."""

STEEP = 10.0
"""Decibels lost in one layer that are worth 16 bits: the one that costs MobileNetV1-0.25 its answers loses 21, the next
6."""


@dataclass(frozen=True)
class Step:
    """Something to do and why; `command` is what to type, where there is something."""

    why: str
    command: str | None = None


def steps(report: Mapping[str, Any], folder: str, rebuild: str) -> list[Step]:
    """Steps for the build in `folder`, made by the command line `rebuild`."""
    return [*_doubts(report, rebuild), *_improvements(report, rebuild), _gate(report, folder)]


def _doubts(report: Mapping[str, Any], rebuild: str) -> Iterator[Step]:
    exactness, latency = report["exactness"], report["latency"]
    if report["accuracy"] is None:
        yield Step(
            "Accuracy was not measured. Name labelled images, used for nothing but measuring:",
            f"{rebuild} --evaluation IMAGES",
        )
    if exactness is not None and exactness["max_step"] > 1:
        yield Step(
            f"The runtime differs from {exactness['reference']} by up to {exactness['max_step']} steps. See which ops "
            "in the table of layers before trusting the file elsewhere."
        )
    if latency is not None and not latency["valid"]:
        yield Step(
            f"The latency must not be believed: {latency.get('reason')}. Measure again on a quiet machine:",
            f"{rebuild} --force measure",
        )


def _improvements(report: Mapping[str, Any], rebuild: str) -> Iterator[Step]:
    accuracy = report["accuracy"]
    difference = (accuracy or {}).get("difference")
    if difference and difference["points"] < -LARGE_DROP and difference.get("high", -1) < 0:
        beyond = ", more than chance explains" if "high" in difference else ""
        lost = f"{-difference['points']:.1f} points were lost{beyond}."
        if set(report["method"].split("+")) <= set(GIVEN) or report["method"].startswith("images"):
            yield Step(f"{lost} Let the network make the calibration images:", f"{rebuild} --method auto")
        else:
            yield Step(f"{lost} Give synthesis more time:", f"{rebuild} --effort best")
        poor = sorted((row for row in report["layers"] if row["sqnr_db"] < POOR), key=lambda row: row["sqnr_db"])
        if poor:
            names = ", ".join(row["name"] for row in poor[:3])
            yield Step(f"Look at the layers that lose most: {names}.")
    if accuracy and accuracy["agreement"] < UNLIKE and _takes_wide(report):
        yield from _wider(report["layers"], rebuild)


def _takes_wide(report: Mapping[str, Any]) -> bool:
    """Whether some layers of 16 bits among those of 8 can be had: in TFLite, without raw pixels or training."""
    whole = report["artifact"]["path"].endswith(".tflite") and report["bits"].endswith("a8")
    return whole and not any(name in report for name in ("raw_pixels", "finetune", "simulated"))


def _wider(layers: Sequence[Mapping[str, Any]], rebuild: str) -> Iterator[Step]:
    """The layer behind which most of the signal is lost, with those that make what it reads, in 16 bits.

    Of MobileNetV1-0.25 these are the two that ranking every value by its cost finds too (``bits16_mixed.md``).
    """
    rows = {row["name"]: row for row in layers}
    lost = {name: _lost(row, rows) for name, row in rows.items() if _is_layer(row)}
    worst = max(lost, key=lambda name: lost[name], default=None)
    if worst is None or lost[worst] < STEEP:
        return
    names = sorted({worst, *_makers(rows[worst], rows)}, key=list(rows).index)
    bits = {name: f"w{rows[name]['weight_bits']}a16" for name in names}
    wider = [f"--layer-bits {shlex.quote(f'{name}={bits[name]}')}" for name in names]
    yield Step(
        f"{worst} loses {lost[worst]:.0f} dB against what it reads, the most of any layer. Activations of 16 bits "
        "there are slower and may win answers back:",
        f"{rebuild} {' '.join(wider)}",
    )


def _is_layer(row: Mapping[str, Any]) -> bool:
    return "weight_bits" in row and row.get("activation_bits") == 8


def _lost(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> float:
    """Decibels between what an op reads and what it makes; 0 behind the network's input, which no layer widens."""
    read = [rows[name]["sqnr_db"] for name in row.get("reads", ()) if name in rows]
    return float(min(read) - row["sqnr_db"]) if read else 0.0


def _makers(row: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The layers that `row` reads from, through ops that are none."""
    found, ahead = set(), list(row.get("reads", ()))
    for name in ahead:  # it grows
        if name in rows and _is_layer(rows[name]):
            found.add(name)
        elif name in rows:
            ahead += [source for source in rows[name].get("reads", ()) if source not in ahead]
    return found


def _gate(report: Mapping[str, Any], folder: str) -> Step:
    limits = f"--max-bytes {report['artifact']['bytes']}"
    if report["accuracy"] is not None:
        limits = f"--max-drop 1.0 --min-agreement 0.97 {limits}"
    return Step("Hold this build, and the ones after it, to limits:", f"edgeq check {shlex.quote(folder)} {limits}")
