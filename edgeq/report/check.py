"""Hold a finished build to limits: what held, by how much, and what could not be judged.

A gate never passes for want of a number: a value that is missing, or must not be believed, has failed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
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
) -> CheckResult:
    """Judge the build in `directory`; limits that are None are not asked for.

    `max_drop` is in points of the task's score (top-1, mIoU, mAP; 1.0 is one percentage point), `min_agreement` a share
    from 0 to 1, `max_bytes` the size of the artifact, `max_latency_ratio` integer / float. The artifact's own gate
    compares the file with the hash in the report: numbers of another file prove nothing. Raises `ArtifactError` when
    `directory` holds no report, or one of a schema this edgeq does not know.
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
    return CheckResult(str(report.get("model")), str(report.get("target")), tuple(gates))


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of the build in `folder`. Raises `ArtifactError`."""
    path = folder / "report.json"
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
