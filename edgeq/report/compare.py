"""What differs between two finished builds: accuracy, grids, what went into them, size and latency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.config.typed import shown
from edgeq.errors import ArtifactError, EdgeqError
from edgeq.integer.graph import IntegerGraph
from edgeq.report.change import error_change, score_change
from edgeq.report.fields import SCHEMA
from edgeq.report.finished import FinishedBuild
from edgeq.report.grids import moved_grids
from edgeq.report.reading import finite, within

__all__ = ["compare_builds"]

MOST = 1000
"""Entries of locks, and grids, that are listed: a stranger's files may hold any number."""


def compare_builds(before: Path, after: Path) -> dict[str, Any]:
    """What `edgeq compare --json` prints of the builds in two folders (or of two report.json). Raises `ArtifactError`.

    What cannot be compared is null or has a ``why``.
    """
    builds = FinishedBuild.read(before), FinishedBuild.read(after)
    one, other = builds
    changed = one.inputs_changed(other)
    files = [build.report.value("artifact", "sha256") for build in builds]
    weights = [within(build.lock, "model", "weights_sha256") for build in builds]
    return {
        "schema": SCHEMA,
        "before": _about(one),
        "after": _about(other),
        "same_file": None if None in files else files[0] == files[1],
        "same_float_network": None if None in weights else weights[0] == weights[1],
        "accuracy": _accuracy(one, other),
        "errors": _errors(one, other),
        "size": _ratio(*(build.report.number("artifact", "bytes") for build in builds)),
        "latency": _latency(one, other),
        "grids": _grids(one, other),
        "lock": [
            {"entry": shown_name(key), "before": _value(left), "after": _value(right)}
            for key, left, right in changed[:MOST]
        ],
        "lock_entries": len(changed),
    }


def shown_name(name: str) -> str:
    return name if len(name) <= MOST else f"{name[:MOST]}..."


def _value(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else shown(value).strip("'")


def _about(build: FinishedBuild) -> dict[str, Any]:
    keys = ("model", "target", "bits", "method", "seed", "edgeq")
    return {
        "folder": build.name,
        **{key: build.report.value(key) for key in keys},
        "whole": not build.report.faults,
        "score": build.score,
        "agreement": build.report.number("accuracy", "agreement"),
        "file": build.report.value("artifact", "sha256"),
    }


def _accuracy(one: FinishedBuild, other: FinishedBuild) -> Mapping[str, Any]:
    change = score_change(one, other)
    if change is not None:
        return change.to_json()
    return {"why": "no score was measured in both builds, or the tasks differ"}


def _errors(one: FinishedBuild, other: FinishedBuild) -> Mapping[str, Any] | None:
    found = error_change(one, other)
    return None if found is None else {"output": found[0], **found[1].to_json()}


def _ratio(before: float | None, after: float | None) -> dict[str, Any]:
    ratio = after / before if before and after else None
    return {"before": before, "after": after, "ratio": ratio}


def _latency(one: FinishedBuild, other: FinishedBuild) -> dict[str, Any]:
    times = [finite(build.report.value("latency", "integer_median_ms")) for build in (one, other)]
    doubts = [build.report.latency_doubt() for build in (one, other)]
    unlike = one.unlike_conditions(other)
    why = next((doubt for doubt in doubts if doubt), "")
    if None in times:
        why = why or "not measured in both builds"
    elif unlike:
        why = why or f"timed under other conditions: {', '.join(unlike)}"
    facts = _ratio(*times)
    return facts | ({"ratio": None, "why": why} if why else {"why": None})


def _grids(one: FinishedBuild, other: FinishedBuild) -> Mapping[str, Any]:
    graphs = []
    for build in (one, other):
        try:
            graphs.append(IntegerGraph.load(build.folder / "integer.safetensors"))
        except EdgeqError as error:
            return {"why": str(error)}
    try:
        facts = moved_grids(*graphs)
    except (LookupError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"the integers of {one.name} and {other.name} cannot be compared", why=str(error)
        ) from error
    cut = {key: rows[:MOST] for key, rows in facts.items() if isinstance(rows, list)}
    return facts | cut | {"moved_grids": len(facts["moved"])}
