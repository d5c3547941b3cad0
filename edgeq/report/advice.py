"""What to do after reading a report: steps that follow from its numbers, the next one first.

No step promises that another setting is better: a report knows what was built and measured. `edgeq diagnose` tries
other settings before it names them, so that is where a build that lost is sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.report.loss import loss_of

__all__ = ["Step", "steps"]


@dataclass(frozen=True)
class Step:
    """Something to do and why; `command` is what to type, where there is something."""

    why: str
    command: str | None = None


def steps(report: Mapping[str, Any], folder: str, rebuild: str) -> list[Step]:
    """Steps for the build in `folder`, made by the command line `rebuild`."""
    return [*_facts(report, folder), *_doubts(report, folder, rebuild), _gate(report, folder)]


def _doubts(report: Mapping[str, Any], folder: str, rebuild: str) -> Iterator[Step]:
    exactness, latency = report["exactness"], report["latency"]
    if not any(report.get(section) for section in ("accuracy", "regression", "embedding")):
        yield Step(
            "Measure accuracy. Name labelled images, which are used for nothing else:",
            f"{rebuild} --evaluation IMAGES",
        )
    if "diagnosis" not in report and not any(report.get(name) for name in ("accuracy", "regression", "embedding")):
        yield Step(
            "Without labels, hold the answers against the float network's on synthetic images:", _diagnose(folder)
        )
    if exactness is not None and exactness["max_step"] > 1:
        yield Step(
            f"The runtime differs from {exactness['reference']} by up to {exactness['max_step']} steps. See which ops "
            "in the table of layers before trusting the file elsewhere."
        )
    if latency is not None and not latency["valid"]:
        yield Step(
            "Measure the latency again, on a quiet machine:",
            f"{rebuild} --force measure",
        )


def _facts(report: Mapping[str, Any], folder: str) -> Iterator[Step]:
    """What a diagnosis found, where there is one; else where the loss is largest, and how to get a diagnosis."""
    if "diagnosis" in report:
        yield from _remedies(report["diagnosis"])
        return
    if (loss := loss_of(report)) is None or loss.grade == "good" or not report["layers"]:
        return
    worst = min(report["layers"], key=lambda row: float(row["sqnr_db"]))
    yield Step(
        f"See where the loss is. The largest error is in {worst['name']} ({worst['op']}): {worst['sqnr_db']:.1f} dB. "
        "Find out which layers the answers depend on, why they lose, and which settings were tried and help:",
        _diagnose(folder),
    )


def _remedies(found: Mapping[str, Any]) -> Iterator[Step]:
    """Causes, then one step for each remedy, with its gain and what it costs."""
    about = f"on {found['images']} synthetic images that calibrated nothing"
    if found["sound"]:
        yield Step(f"A diagnosis found the build sound, so it tried nothing: {_answers(found)} {about}.")
        return
    causes = "; ".join(
        f"{each['where']} ({each['share']:.0%} of the noise): {each['text']}" for each in found["causes"]
    )
    nothing = "" if found["remedies"] else f" {found['tried']} other settings were simulated, and none helps."
    yield Step(f"Simulated {about}: {_answers(found)}. {causes}.{nothing}")
    for remedy in found["remedies"]:
        more = remedy["bytes"] - found["bytes"]
        yield Step(
            f"Build with {remedy['why']}: {_answers(remedy)} there, {more:+,} bytes, {remedy['time']}:",
            remedy["command"],
        )


def _answers(of: Mapping[str, Any]) -> str:
    noise = f"answers at {of['answers_db']:.1f} dB"
    return noise if of["same_answers"] is None else f"{of['same_answers']:.0%} of answers as float, {noise}"


def _diagnose(folder: str) -> str:
    return f"edgeq diagnose {shlex.quote(folder)}"


def _gate(report: Mapping[str, Any], folder: str) -> Step:
    limits = f"--max-bytes {report['artifact']['bytes']}"
    if report["accuracy"] is not None and report.get("simulated") is None:
        limits = f"--max-drop 1.0 --min-agreement 0.97 {limits}"
    elif report.get("regression"):
        worst = min(report["regression"]["outputs"], key=lambda row: float(row["snr_db"]))
        limits = f"--min-snr-db {max(0, int(worst['snr_db']) - 3)} {limits}"
    elif report.get("embedding"):
        limits = f"--min-cosine 0.99 {limits}"
    return Step("Hold this build, and the ones after it, to limits:", f"edgeq check {shlex.quote(folder)} {limits}")
