"""The verdict on several builds: each held to its own limits, and what that means for the exit code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeq.errors import ArtifactError, coded
from edgeq.report.check import CheckResult
from edgeq.report.fields import SCHEMA
from edgeq.report.gate import Gate
from edgeq.report.lock import portable

__all__ = ["Judged", "Undecided", "Verdict", "judge", "settle"]

Undecided = Literal["pass", "fail"]
"""What a limit means that these images cannot decide."""


@dataclass(frozen=True)
class Judged:
    """One build, in `folder`: its gates, or the error that kept it from being judged."""

    folder: Path
    result: CheckResult | None
    error: str = ""

    @property
    def name(self) -> str:
        """The folder, as it was typed; of an absolute one the last part."""
        return str(portable(self.folder))

    @property
    def held(self) -> bool:
        return self.result is not None and self.result.held

    @property
    def word(self) -> Literal["passed", "failed", "error"]:
        return "error" if self.result is None else "passed" if self.held else "failed"

    def to_json(self) -> dict[str, Any]:
        facts = {"folder": self.name, "passed": self.held, "error": self.error or None}
        return facts | (
            self.result.to_json() if self.result is not None else {"model": None, "target": None, "rows": []}
        )


@dataclass(frozen=True)
class Verdict:
    """All builds, in the order they were named."""

    builds: Sequence[Judged]

    @property
    def exit_status(self) -> int:
        """2 where a build could not be judged at all, else 1 where one failed, else 0."""
        return 2 if any(build.result is None for build in self.builds) else int(not self.passed)

    @property
    def passed(self) -> bool:
        return all(build.held for build in self.builds)

    @property
    def summary(self) -> str:
        """In one line: how many builds passed, and which did not."""
        others = [f"{build.name} ({build.word})" for build in self.builds if not build.held]
        passed = f"{len(self.builds) - len(others)} of {len(self.builds)} builds passed"
        return f"{passed}; not {', '.join(others)}" if others else passed

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "passed": self.passed, "builds": [build.to_json() for build in self.builds]}


def judge(
    folders: Sequence[Path],
    check: Callable[[Path], tuple[CheckResult, Mapping[str, str]]],
    undecided: Undecided = "pass",
) -> Verdict:
    """Hold every build to what `check` says: its gates, and where each limit was set, by its name in a budget.

    A build that cannot be read is an error of the verdict, and the others are judged. The limits that its images cannot
    decide hold, or miss where `undecided` is ``fail``.
    """
    builds = []
    for folder in folders:
        try:
            result, origin = check(folder)
        except ArtifactError as error:
            builds.append(Judged(folder, None, coded(error.code, str(error))))
            continue
        gates = tuple(_with_origin(gate, origin) for gate in result.gates)
        builds.append(Judged(folder, settle(dataclasses.replace(result, gates=gates), undecided)))
    return Verdict(builds)


def settle(result: CheckResult, undecided: Undecided) -> CheckResult:
    """Let limits that are not decided hold, or miss where `undecided` is ``fail``."""
    return dataclasses.replace(result, gates=tuple(_settle(gate, undecided) for gate in result.gates))


def _with_origin(gate: Gate, origin: Mapping[str, str]) -> Gate:
    key = gate.name.split(" ")[0].replace("-", "_")  # a device's name follows that of its limit
    return dataclasses.replace(gate, origin=origin.get(key))


def _settle(gate: Gate, undecided: Undecided) -> Gate:
    if undecided == "pass" or not (gate.held and gate.undecided):
        return gate
    return dataclasses.replace(gate, held=False, reason=gate.note or "not decided", note=None)
