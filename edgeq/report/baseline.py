"""Limits on what a build may lose against a baseline: the same build of another branch, release or setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeq.errors import ArtifactError, ConfigError
from edgeq.report.builds import build_name, find_builds
from edgeq.report.change import SCORES, Change, error_change, score_change
from edgeq.report.finished import FinishedBuild
from edgeq.report.gate import Gate, at_most, failed_gate

__all__ = ["baseline_gates", "find_baselines"]

DROP = 1.0
"""Points of the score that a build may lose against its baseline where no budget says otherwise."""

ERROR_RATIO = 1.1
"""The same of the mean error of real values, as a ratio to the baseline's."""

SHOWN = 6
"""Entries of a lock that a line lists."""


def find_baselines(against: Path, folders: list[Path]) -> dict[Path, Path | None]:
    """The baseline of each build: of the same name in the folder `against`, or `against` itself for a single build.

    None where there is no build of that name. Raises `ArtifactError` where `against` holds no build, and `ConfigError`
    where it is one build and `folders` are several.
    """
    if against.name == "report.json" or (against / "report.json").is_file():
        FinishedBuild.read(against)
        if len(folders) > 1:
            hint = "name a folder that holds builds of the same names"
            raise ConfigError(f"{len(folders)} builds against the one in {against}", hint=hint)
        return dict.fromkeys(folders, against)
    found = {build_name(folder): folder for folder in find_builds(against) if (folder / "report.json").exists()}
    if not found:
        raise ArtifactError(f"{against} holds no builds", hint="name a build, a folder of builds, or a report.json")
    return {folder: found.get(build_name(folder)) for folder in folders}


def baseline_gates(folder: Path, baseline: Path | None, limits: Mapping[str, float | None]) -> Iterator[Gate]:
    """Hold the build in `folder` to `limits` against the one at `baseline`, None where there is none.

    `limits` are those of a budget whose names begin with ``max_baseline``. What these images cannot decide is a gate
    that holds and is `undecided`.
    """
    if baseline is None:
        yield _open("baseline", "a build of this name", "the baseline has no build of this name")
        return
    try:
        before = FinishedBuild.read(baseline)
    except ArtifactError as error:
        yield _open("baseline", str(baseline), f"it cannot be read: {error}")
        return
    after = FinishedBuild.read(folder)
    yield Gate("baseline", before.name, "compared", None, True, note=_lock_note(before, after))
    yield from _accuracy(before, after, limits)
    size = limits.get("max_baseline_size_ratio")
    if size is not None:
        one, other = (each.report.number("artifact", "bytes") for each in (before, after))
        ratio = other / one if one and other else None
        yield at_most("max-baseline-size-ratio", size, ratio, "the size is not known")
    latency = limits.get("max_baseline_latency_ratio")
    if latency is not None:
        yield _latency(before, after, latency)


def _accuracy(before: FinishedBuild, after: FinishedBuild, limits: Mapping[str, float | None]) -> Iterator[Gate]:
    drop, ratio = limits.get("max_baseline_drop"), limits.get("max_baseline_error_ratio")
    change = score_change(before, after)
    if change is not None:
        limit = DROP if drop is None else drop
        yield _judge("max-baseline-drop", limit, _loss(change), "images")
    elif before.score is not None and after.score is None:
        limit = DROP if drop is None else drop
        yield failed_gate("max-baseline-drop", limit, "accuracy was not measured, and the baseline's was")
    elif drop is not None or after.score is not None:
        yield _open("max-baseline-drop", DROP if drop is None else drop, "the baseline has no score to compare with")
    if (found := error_change(before, after)) is not None and (change is None or ratio is not None):
        name, errors = found
        gate = _judge("max-baseline-error-ratio", ERROR_RATIO if ratio is None else ratio, errors, "images")
        yield Gate(**{**vars(gate), "note": f"{gate.note or ''} (worst output: {name})".strip()}) if name else gate
    elif ratio is not None and found is None:
        yield _open("max-baseline-error-ratio", ratio, "real values were not measured in both builds")


def _loss(change: Change) -> Change:
    """The change as a loss, so that more is worse."""
    low, high = (None if end is None else -end + 0.0 for end in (change.high, change.low))
    return Change(**{**vars(change), "value": -change.value + 0.0, "low": low, "high": high})


def _judge(name: str, limit: float, change: Change, things: str) -> Gate:
    """Held where the whole interval of `change` is at most `limit`, missed where none of it is, else not decided."""
    if change.low is None or change.high is None:
        return _judge_alone(name, limit, change)
    shown = f"{change.value:+.2f} ({change.low:+.2f} to {change.high:+.2f} with 95 % confidence, n = {change.n:,}"
    shown += f", p = {change.p_value:.2g}" if change.p_value is not None else ""
    shown += f"; {change.method})" + (f"; {change.why}" if change.why else "")
    if change.low > limit:
        return Gate(name, limit, change.value, limit - change.value, False, f"is worse than the baseline: {shown}")
    if change.high <= limit:
        return Gate(name, limit, change.value, limit - change.value, True, note=shown)
    if change.why:
        return _open(name, limit, f"cannot be decided: {shown}", change.value)
    needed = change.needed(limit)
    would = f"n = {needed:,} would decide" if needed else f"no number of {things} would decide so close to the limit"
    return _open(name, limit, f"not decided with n = {change.n:,}: {would}; {shown}", change.value)


def _judge_alone(name: str, limit: float, change: Change) -> Gate:
    """The same without an interval: what is more than `limit` on the same images is missed."""
    if change.n and change.value > limit:
        reason = f"is worse than the baseline by {SCORES}: {change.value:+.2f} ({change.why})"
        return Gate(name, limit, change.value, limit - change.value, False, reason)
    if change.n and change.method == SCORES:
        return Gate(name, limit, change.value, limit - change.value, True, note=f"held by {SCORES}: {change.why}")
    return _open(name, limit, f"cannot be decided: {change.why}", change.value if change.n else None)


def _open(name: str, limit: float | str, why: str, value: float | None = None) -> Gate:
    """A gate that holds because nothing can be said."""
    return Gate(name, limit, value, None, True, note=why, undecided=True)


def _latency(before: FinishedBuild, after: FinishedBuild, limit: float) -> Gate:
    name = "max-baseline-latency-ratio"
    for whose, build in (("the baseline's", before), ("this build's", after)):
        if build.report.section("latency") is None or build.report.latency_doubt():
            return _open(name, limit, f"{whose} latency was not measured or is not to be believed")
    if unlike := before.unlike_conditions(after):
        return _open(name, limit, f"timed under other conditions: {', '.join(unlike)}")
    one, other = (each.report.number("latency", "integer_median_ms") for each in (before, after))
    return at_most(name, limit, other / one if one and other else None, "the report lacks it")


def _lock_note(before: FinishedBuild, after: FinishedBuild) -> str:
    if not before.lock or not after.lock:
        return "one of the builds has no lock to compare"
    lines = [key for key, _, _ in before.inputs_changed(after)]
    if not lines:
        return "both locks name the same inputs"
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"the locks differ in {', '.join(lines[:SHOWN])}{more}"
