"""What to do after reading a report: steps that follow from its numbers, the next one first."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.report.charts import POOR

__all__ = ["Step", "steps"]

LARGE_DROP = 1.0
"""Points of top-1 that are worth another attempt."""


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
        yield Step(
            f"{-difference['points']:.1f} points were lost{beyond}. Give synthesis more time:",
            f"{rebuild} --effort best",
        )
        poor = sorted((row for row in report["layers"] if row["sqnr_db"] < POOR), key=lambda row: row["sqnr_db"])
        if poor:
            names = ", ".join(row["name"] for row in poor[:3])
            yield Step(f"Look at the layers that lose most: {names}.")


def _gate(report: Mapping[str, Any], folder: str) -> Step:
    limits = f"--max-bytes {report['artifact']['bytes']}"
    if report["accuracy"] is not None:
        limits = f"--max-drop 1.0 --min-agreement 0.97 {limits}"
    return Step("Hold this build, and the ones after it, to limits:", f"edgeq check {shlex.quote(folder)} {limits}")
