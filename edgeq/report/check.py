"""Hold a finished build to limits: what held, by how much, and what could not be judged.

A gate never passes for want of a number: a value that is missing, or must not be believed, has failed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.report.fields import SCHEMA
from edgeq.report.metric import score_of

__all__ = ["CheckResult", "Gate", "check", "read_report"]


@dataclass(frozen=True)
class Gate:
    """One limit. `margin` is how far the value is on the good side of `limit`; negative when it missed.

    `value` and `margin` are None when there is nothing to judge, and `reason` then says why.
    """

    name: str
    limit: float | int | str
    value: float | int | str | None
    margin: float | int | None
    held: bool
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "value": self.value,
            "margin": self.margin,
            "passed": self.held,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class CheckResult:
    """All gates of one build, in the order they were asked for; the first is always the artifact itself."""

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
    min_agreement: float | None = None,
    max_bytes: int | None = None,
    max_latency_ratio: float | None = None,
    max_device_drop: float | None = None,
    min_device_agreement: float | None = None,
    max_device_latency_ratio: float | None = None,
    max_device_ms: float | None = None,
    max_device_bytes: int | None = None,
    devices: Sequence[str] = (),
) -> CheckResult:
    """Judge the build in `directory`; limits that are None are not asked for.

    `max_drop` is in points of the task's score (top-1, mIoU, mAP; 1.0 is one percentage point), `min_agreement` a share
    from 0 to 1, `max_bytes` the size of the artifact, `max_latency_ratio` integer / float. Limits of a device are held
    against every one of `devices`, or of those the report has: `max_device_drop` is against the float network on the
    building machine, `min_device_agreement` against the same file there. The artifact's own gate compares the file with
    the hash in the report: numbers of another file prove nothing. Raises `ArtifactError` when `directory` holds no
    report, or one of a schema this edgeq does not know.
    """
    folder = Path(directory)
    report = read_report(folder)
    size, whole = _artifact(folder, report)
    gates = [whole]
    if max_drop is not None:
        before, after = (_finite(score_of(report.get("accuracy"), which)) for which in ("float", "integer"))
        drop = None if before is None or after is None else before - after
        gates.append(_at_most("max-drop", max_drop, drop, _no_accuracy(report)))
    if min_agreement is not None:
        agreement = _number(report, "accuracy", "agreement")
        gates.append(_at_least("min-agreement", min_agreement, agreement, _no_accuracy(report)))
    if max_bytes is not None:
        gates.append(_at_most("max-bytes", max_bytes, size, "the artifact is not there"))
    if max_latency_ratio is not None:
        doubt = _latency_doubt(report)
        ratio = None if doubt else _number(report, "latency", "ratio")
        gates.append(_at_most("max-latency-ratio", max_latency_ratio, ratio, doubt or "latency was not measured"))
    there = {
        "max-device-drop": max_device_drop,
        "min-device-agreement": min_device_agreement,
        "max-device-latency-ratio": max_device_latency_ratio,
        "max-device-ms": max_device_ms,
        "max-device-bytes": max_device_bytes,
    }
    gates += _device_gates(report, {name: limit for name, limit in there.items() if limit is not None}, devices)
    return CheckResult(str(report.get("model")), str(report.get("target")), tuple(gates))


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of the build in `folder`. Raises `ArtifactError`."""
    path = folder / "report.json"
    if folder.is_file():
        raise ArtifactError(f"{folder} is a file", hint="name the folder of a finished build")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no report.json", hint="name the folder of a finished build") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read", why=str(error)) from error
    found = report.get("schema") if isinstance(report, dict) else None
    if not isinstance(report, dict) or isinstance(found, bool) or found != SCHEMA:
        raise ArtifactError(
            f"{path} has schema {found!r}", why=f"this edgeq reads {SCHEMA}", hint="build again, or update edgeq"
        )
    return report


def _artifact(folder: Path, report: Mapping[str, Any]) -> tuple[int | None, Gate]:
    """The real size of the artifact, and whether it is the file the report speaks of."""
    name, expected = _value(report, "artifact", "path"), _value(report, "artifact", "sha256")
    limit = expected[:12] if isinstance(expected, str) else "unknown"

    def failed(value: str | None, reason: str) -> Gate:
        return Gate("artifact", limit, value, None, False, reason)

    if not isinstance(name, str) or not isinstance(expected, str):
        return None, failed(None, "the report names no artifact")
    if not name or name in (".", "..") or PureWindowsPath(name).name != name:
        return None, failed(None, "the artifact is not in the folder of the report")
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        return None, failed(None, f"{name}: {error.strerror or 'cannot be read'}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        return len(data), failed(digest[:12], f"{name} changed after it was measured")
    return len(data), Gate("artifact", limit, digest[:12], None, True)


def _device_gates(report: Mapping[str, Any], limits: Mapping[str, float], names: Sequence[str]) -> Iterator[Gate]:
    """Every limit against every device; a device nobody measured holds none."""
    rows = {str(row.get("name")): row for row in report.get("devices") or () if isinstance(row, Mapping)}
    for name, limit in limits.items():
        for device in names or list(rows):
            row = rows.get(device) or _phone(rows, device)
            found, missing = (None, "not measured there") if row is None else _there(report, row, name)
            judge = _at_least if name.startswith("min-") else _at_most
            yield judge(f"{name} {device}", limit, found, missing)
        if not names and not rows:
            yield _at_most(name, limit, None, "no device was measured: edgeq build ... --device DEVICE")


def _phone(rows: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """``adb`` is the one phone there is, kept under its serial."""
    phones = [row for known, row in rows.items() if known.startswith("adb:")] if name == "adb" else []
    return phones[0] if len(phones) == 1 else None


def _there(report: Mapping[str, Any], row: Mapping[str, Any], name: str) -> tuple[float | None, str]:
    """The value of one device that a limit judges; or None, and why there is none."""
    if name == "max-device-bytes":
        return _number(row, "peak_bytes"), "memory was not measured"
    if name in ("max-device-latency-ratio", "max-device-ms"):
        if row.get("latency") is not None and row.get("valid") is not True:
            return None, f"not to be believed: {'; '.join(map(str, row.get('doubts') or ())) or 'the report says so'}"
        key = "ratio" if name == "max-device-latency-ratio" else "integer_median_ms"
        emulated = _value(row, "machine", "emulated")
        return _number(row, "latency", key), f"there are no times: {emulated} is emulated" if emulated else "not timed"
    if row.get("accuracy") is None:
        return None, _no_accuracy(report)
    if name == "min-device-agreement":
        return _number(row, "accuracy", "agreement"), "the report lacks it"
    if _value(row, "accuracy", "sha256") != _value(report, "accuracy", "sha256"):
        return None, "the device answered other images than the float network"
    before, after = _finite(score_of(report.get("accuracy"), "float")), _number(row, "accuracy", "score")
    return None if before is None or after is None else before - after, _no_accuracy(report)


def _at_most(name: str, limit: float, value: float | None, missing: str) -> Gate:
    return _judged(name, limit, value, None if value is None else limit - value, missing)


def _at_least(name: str, limit: float, value: float | None, missing: str) -> Gate:
    return _judged(name, limit, value, None if value is None else value - limit, missing)


def _judged(name: str, limit: float, value: float | None, margin: float | None, missing: str) -> Gate:
    if value is None or margin is None:
        return Gate(name, limit, None, None, False, missing)
    # 94.2 - 93.2 is a little more than 1 in binary: nine decimals are far below one image in any set, and above that.
    value, margin = (round(v, 9) if isinstance(v, float) else v for v in (value, margin))
    held = margin >= 0
    return Gate(name, limit, value, margin, held, None if held else f"missed by {abs(margin):.4g}")


def _value(report: Mapping[str, Any], *path: str) -> Any:
    found: Any = report
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _number(report: Mapping[str, Any], *path: str) -> float | None:
    """A finite number at `path`; None for anything else."""
    return _finite(_value(report, *path))


def _finite(found: Any) -> float | None:
    return found if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) else None


def _no_accuracy(report: Mapping[str, Any]) -> str:
    if report.get("accuracy") is None:
        return "accuracy was not measured: no evaluation images"
    return "the report lacks it"


def _latency_doubt(report: Mapping[str, Any]) -> str:
    """Why the latency must not be believed; empty when it may be, or was not measured at all."""
    if not isinstance(report.get("latency"), Mapping) or _value(report, "latency", "valid") is True:
        return ""
    return f"not to be believed: {_value(report, 'latency', 'reason') or 'the report calls it invalid'}"
