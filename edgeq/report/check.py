"""Hold a finished build to limits: what held, by how much, and what could not be judged.

A gate never passes for want of a number: a value that is missing, impossible or not to be believed has failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.report.baseline import baseline_gates
from edgeq.report.fields import SCHEMA
from edgeq.report.gate import Gate, at_least, at_most, failed_gate
from edgeq.report.integrity import artifact_gate, exactness_gate, lock_gate
from edgeq.report.metric import score_of
from edgeq.report.reading import SoundReport, finite, read_report, within
from edgeq.report.valuegates import value_gates

__all__ = ["MIN_IMAGES", "CheckResult", "Gate", "check", "read_report"]

MIN_IMAGES = 100
"""Images below which a limit on accuracy is not judged, unless `min_images` says otherwise: of 100 images each is a
percentage point, the loss that most gates allow."""


@dataclass(frozen=True)
class CheckResult:
    """All gates of one build: those that every build is held to first, then the limits in the order they were given."""

    model: str
    target: str
    gates: tuple[Gate, ...]

    @property
    def held(self) -> bool:
        return all(gate.held for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.model,
            "target": self.target,
            "passed": self.held,
            "rows": [gate.to_json() for gate in self.gates],
        }


def check(
    directory: str | Path,
    *,
    max_drop: float | None = None,
    min_score: float | None = None,
    min_agreement: float | None = None,
    max_error: float | None = None,
    max_mae: float | None = None,
    min_snr_db: float | None = None,
    min_cosine: float | None = None,
    max_bytes: int | None = None,
    max_latency_ratio: float | None = None,
    max_device_drop: float | None = None,
    min_device_score: float | None = None,
    min_device_agreement: float | None = None,
    max_device_latency_ratio: float | None = None,
    max_device_ms: float | None = None,
    max_device_bytes: int | None = None,
    max_baseline_drop: float | None = None,
    max_baseline_error_ratio: float | None = None,
    max_baseline_size_ratio: float | None = None,
    max_baseline_latency_ratio: float | None = None,
    min_images: int | None = None,
    allow_simulated: bool = False,
    devices: Sequence[str] = (),
    against: bool = False,
    baseline: Path | None = None,
) -> CheckResult:
    """Judge the build in `directory`; limits that are None are not asked for.

    Four gates come before all limits. ``report``: report.json fits its schema and does not contradict itself.
    ``artifact``: the file is the one the report speaks of. ``lock``: edgeq.lock is of this build, and all files it
    names are unchanged. ``exactness``: the runtime computed the integers that the build predicted.

    `max_drop` is in points of the task's score (top-1, mIoU, mAP; 1.0 is one percentage point), `min_score` that score
    of the integer model in percent, `min_agreement` a share from 0 to 1, `max_bytes` the size of the artifact. Of a
    regressor's outputs the worst must hold: `max_error` and `max_mae` are in its unit, `min_snr_db` in decibels.
    `min_cosine` is what 95 % of embeddings reach.
    `max_latency_ratio` integer / float. Limits of a device are held against every one of `devices`, or of those the
    report has: `max_device_drop` is against the float network on the building machine, `min_device_agreement` against
    the same file there.

    `against`: the build is also compared with the one at `baseline`, None where it has none
    (`edgeq.report.baseline`); without it the limits ``max_baseline`` are not judged.

    Limits on accuracy fail on fewer than `min_images` images (`MIN_IMAGES` where it is None), and where the accuracy is
    that of the exact reference and not of the file, unless `allow_simulated`. Raises `ArtifactError` when `directory`
    holds no report, or one of a schema this edgeq does not know.
    """
    folder = Path(directory)
    report = SoundReport.read(folder)
    size, whole = artifact_gate(folder, report.section("artifact"), report.why("artifact", "the report names none"))
    gates = [report.gate(), whole, lock_gate(folder, report.section("artifact"))]
    exactness = report.section("exactness")
    path = str((report.section("artifact") or {}).get("path"))
    gates.append(exactness_gate(exactness, path, report.why("exactness", "the build was not verified")))
    needed = MIN_IMAGES if min_images is None else min_images
    value_limits = {
        name: limit
        for name, limit in {
            "max-error": max_error,
            "max-mae": max_mae,
            "min-snr-db": min_snr_db,
            "min-cosine": min_cosine,
        }.items()
        if limit is not None
    }
    if max_drop is not None or min_score is not None or min_agreement is not None or value_limits:
        gates += _grounds(report, needed, allow_simulated)
    missing, chance = report.why("accuracy", _unscored(report)), report.at_chance()
    before, after = (finite(score_of(report.section("accuracy"), which)) for which in ("float", "integer"))
    if max_drop is not None:
        drop = None if before is None or after is None else before - after
        open_question = report.undecided(max_drop)
        gate = at_most("max-drop", max_drop, drop, missing, open_question or chance)
        gates.append(replace(gate, undecided=gate.held and open_question is not None))
    if min_score is not None:
        gates.append(at_least("min-score", min_score, after, missing))
    if min_agreement is not None:
        agreement = report.number("accuracy", "agreement")
        gates.append(at_least("min-agreement", min_agreement, agreement, missing, chance))
    gates += value_gates(report, value_limits)
    if max_bytes is not None:
        gates.append(at_most("max-bytes", max_bytes, size, "the artifact is not there"))
    if max_latency_ratio is not None:
        doubt = report.latency_doubt()
        ratio = None if doubt else report.number("latency", "ratio")
        absent = doubt or report.why("latency", "latency was not measured")
        gates.append(at_most("max-latency-ratio", max_latency_ratio, ratio, absent))
    device_limits = {
        "max-device-drop": max_device_drop,
        "min-device-score": min_device_score,
        "min-device-agreement": min_device_agreement,
        "max-device-latency-ratio": max_device_latency_ratio,
        "max-device-ms": max_device_ms,
        "max-device-bytes": max_device_bytes,
    }
    limits = {name: limit for name, limit in device_limits.items() if limit is not None}
    gates += _device_gates(report, limits, devices, needed)
    if against:
        baseline_limits = {
            "max_baseline_drop": max_baseline_drop,
            "max_baseline_error_ratio": max_baseline_error_ratio,
            "max_baseline_size_ratio": max_baseline_size_ratio,
            "max_baseline_latency_ratio": max_baseline_latency_ratio,
        }
        gates += baseline_gates(folder, baseline, baseline_limits)
    return CheckResult(report.text("model"), report.text("target"), tuple(gates))


def _grounds(report: SoundReport, needed: int, allow_simulated: bool) -> Iterator[Gate]:
    """Whether the accuracy can be judged at all: of the file itself, on enough images."""
    if report.is_simulated:
        file_score = report.number("simulated", "file_score")
        reason = "accuracy is the exact reference's: no runtime confines activations to fewer than 8 bits"
        reason += f", and the file itself scores {file_score:.2f} %" if file_score is not None else ""
        if allow_simulated:
            yield Gate("simulated", "allowed", "simulated", None, True, note=reason)
        else:
            yield failed_gate(
                "simulated", "the file", f"{reason} (--allow-simulated judges it nevertheless)", "simulated"
            )
    measured = next((name for name in ("regression", "embedding") if report.section(name)), "accuracy")
    n = report.number(measured, "n")
    if n is not None or report.section(measured) is None:
        yield _enough("min-images", needed, n, report.why(measured, "accuracy was not measured"))
    else:
        yield failed_gate("min-images", needed, report.why("accuracy", "the report lacks it"))


def _unscored(report: SoundReport) -> str:
    """Why a report without an accuracy section has none."""
    if report.section("regression"):
        return "a regressor has no score: use --max-error, --max-mae or --min-snr-db"
    if report.section("embedding"):
        return "no pairs of images are known: use --min-cosine, or evaluation images with pairs"
    return "accuracy was not measured: no evaluation images"


def _enough(name: str, needed: int, n: float | None, missing: str) -> Gate:
    if n is not None and n < needed:
        reason = (
            f"{n:,} images are too few: each is {100 / n:.3g} points (--min-images {n:.0f} judges them nevertheless)"
        )
        return failed_gate(name, needed, reason, n)
    return at_least(name, needed, n, missing)


def _device_gates(
    report: SoundReport, limits: Mapping[str, float], names: Sequence[str], needed: int
) -> Iterator[Gate]:
    """Every limit against every device; a device nobody measured holds none."""
    rows = report.rows()
    devices = names or list(rows)
    accuracy = set(limits) & {"max-device-drop", "min-device-score", "min-device-agreement"}
    for device in devices if accuracy else ():
        row = rows.get(device) or _phone(rows, device)
        n = finite(within(row, "accuracy", "n"))
        if n is not None:
            yield _enough(f"min-images {device}", needed, n, "")
    for name, limit in limits.items():
        for device in devices:
            row = rows.get(device) or _phone(rows, device)
            value, missing = (None, "not measured there") if row is None else _there(report, row, name)
            judge = at_least if name.startswith("min-") else at_most
            yield judge(f"{name} {device}", limit, value, missing)
        if not devices:
            reason = report.why("devices", "no device was measured: edgeq build ... --device DEVICE")
            yield failed_gate(name, limit, reason)


def _phone(rows: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """``adb`` is the one phone there is, kept under its serial."""
    phones = [row for known, row in rows.items() if known.startswith("adb:")] if name == "adb" else []
    return phones[0] if len(phones) == 1 else None


def _there(report: SoundReport, row: Mapping[str, Any], name: str) -> tuple[float | None, str]:
    """The value of one device that a limit judges; or None, and why there is none."""
    faulty = report.why("devices", "the report lacks it")
    if name == "max-device-bytes":
        return finite(row.get("peak_bytes")), "memory was not measured"
    if name in ("max-device-latency-ratio", "max-device-ms"):
        if row.get("latency") is not None and row.get("valid") is not True:
            return None, f"not to be believed: {'; '.join(map(str, row.get('doubts') or ())) or 'the report says so'}"
        key = "ratio" if name == "max-device-latency-ratio" else "integer_median_ms"
        emulated = within(row, "machine", "emulated")
        return finite(within(row, "latency", key)), (
            f"there are no times: {emulated} is emulated" if emulated else "not timed"
        )
    if row.get("accuracy") is None:
        return None, report.why("accuracy", "accuracy was not measured: no evaluation images")
    if name == "min-device-agreement":
        return finite(within(row, "accuracy", "agreement")), faulty
    score = finite(within(row, "accuracy", "score"))
    if name == "min-device-score":
        return score, faulty
    images = within(row, "accuracy", "sha256")
    if images is None or images != report.value("accuracy", "sha256"):
        return None, "the device answered other images than the float network"
    before = finite(score_of(report.section("accuracy"), "float"))
    return None if before is None or score is None else before - score, faulty
