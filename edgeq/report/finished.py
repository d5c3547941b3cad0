"""A finished build as another one is compared with it: its report, its lock, and its answers to single images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.measure.answers import ANSWERS, Answers
from edgeq.report.integrity import LOCK, file_difference
from edgeq.report.lock import changed_entries, portable, read_lock
from edgeq.report.metric import metric_of, score_of
from edgeq.report.reading import SoundReport, finite

__all__ = ["FinishedBuild"]

CLOSE = 1e-6
"""Percentage points that a score of a report and one of single answers may differ by."""


CONDITIONS = ("cpu", "architecture", "cores", "flags", "governor", "virtual", "container", "runtime", "kernels")
"""What two timings must agree in to be compared, beside the number of threads."""

MADE = ("files", "artifact", "integer_sha256", "calibration", "stages")
"""Parts of a lock that came out of the build."""


@dataclass(frozen=True)
class FinishedBuild:
    """`lock` is empty where there is none. `answers` are None where they are missing or not to be believed, and `why`
    says why."""

    folder: Path
    report: SoundReport
    lock: Mapping[str, Any]
    answers: Answers | None
    why: str

    @classmethod
    def read(cls, path: Path) -> FinishedBuild:
        """The build in the folder `path`, or the one whose report.json `path` is. Raises `ArtifactError`."""
        folder = path.parent if path.name == "report.json" and not path.is_dir() else path
        report = SoundReport.read(folder)
        try:
            lock = read_lock(folder / LOCK)
        except (ArtifactError, RecursionError):
            lock = {}
        try:
            return cls(folder, report, lock, _believed(folder, report, lock), "")
        except ArtifactError as error:
            return cls(folder, report, lock, None, error.why)

    @property
    def name(self) -> str:
        return str(portable(self.folder))

    @property
    def score(self) -> float | None:
        """Of the integer file, in percent."""
        return finite(score_of(self.report.section("accuracy"), "integer"))

    @property
    def metric(self) -> str:
        return metric_of(self.report.section("accuracy") or {})

    def unlike_conditions(self, other: FinishedBuild) -> list[str]:
        """In what the timings of both builds differ, so that they cannot be compared."""
        keys = [("latency", "threads"), *(("latency", "conditions", key) for key in CONDITIONS)]
        pairs = {path[-1]: (self.report.value(*path), other.report.value(*path)) for path in keys}
        return [
            name if isinstance(one, list | dict) else f"{name} {one} against {another}"
            for name, (one, another) in pairs.items()
            if one != another
        ]

    def inputs_changed(self, other: FinishedBuild) -> list[tuple[str, Any, Any]]:
        """What went into one build and not into the other: entries of both locks, without what came out."""
        one, another = ({k: v for k, v in build.lock.items() if k not in MADE} for build in (self, other))
        return changed_entries(one, another)


def _believed(folder: Path, report: SoundReport, lock: Mapping[str, Any]) -> Answers:
    """The answers, where lock and report agree with them. Raises `ArtifactError` that says why not."""
    files = lock.get("files")
    stated = files.get(ANSWERS) if isinstance(files, Mapping) else None
    if stated is None:
        raise ArtifactError(ANSWERS, why="holds no per-image answers")
    if file_difference(folder, ANSWERS, stated):
        raise ArtifactError(ANSWERS, why="holds other per-image answers than its lock names")
    try:
        answers = Answers.load(folder / ANSWERS)
    except ArtifactError as error:
        raise ArtifactError(ANSWERS, why="holds per-image answers that cannot be read") from error
    images = [report.value(name, "sha256") for name in ("accuracy", "regression", "embedding") if report.section(name)]
    if images[:1] != [answers.images]:
        raise ArtifactError(ANSWERS, why="holds per-image answers to other images than its report is about")
    right, score = answers.right(), finite(score_of(report.section("accuracy"), "integer"))
    if right is not None and (score is None or abs(100 * right.mean() - score) > CLOSE):
        raise ArtifactError(ANSWERS, why="holds per-image answers that contradict its report")
    return answers
