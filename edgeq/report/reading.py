"""Reading the report of a build that may come from anywhere: what is not whole in it is absent, with a reason."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.config.typed import Fault
from edgeq.errors import ArtifactError
from edgeq.limits import read_json
from edgeq.measure.statistics import images_to_decide
from edgeq.report.cautions import chance_of
from edgeq.report.fields import SCHEMA
from edgeq.report.gate import Gate, failed_gate
from edgeq.report.validation import report_faults, without

__all__ = ["SoundReport", "finite", "read_report", "within"]

SHOWN = 3
"""Faults of a report that its gate names."""


def read_report(folder: Path) -> dict[str, Any]:
    """report.json of the build in `folder`, of a schema this edgeq reads; nothing else in it is checked.

    Raises `ArtifactError`.
    """
    path = folder / "report.json"
    if folder.is_file():
        raise ArtifactError(f"{folder} is a file", hint="name the folder of a finished build")
    try:
        report = read_json(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder} holds no report.json", hint="name the folder of a finished build") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read", why=str(error)) from error
    schema = report.get("schema") if isinstance(report, dict) else None
    if not isinstance(report, dict) or isinstance(schema, bool) or schema != SCHEMA:
        raise ArtifactError(
            f"{path} has schema {str(schema)[:100]!r}",
            why=f"this edgeq reads {SCHEMA}",
            hint="build again, or update edgeq",
        )
    return report


class SoundReport:
    """A report of which only what is whole can be read: faulty values are absent, and the fault is the reason."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.faults: Sequence[Fault] = [fault for fault in report_faults(report) if fault.problem != "unknown"]
        self._sound = without(report, self.faults)
        self.is_simulated = "simulated" in report or any(fault.keys == ("simulated",) for fault in self.faults)

    @classmethod
    def read(cls, folder: Path) -> SoundReport:
        return cls(read_report(folder))

    def gate(self) -> Gate:
        """Whether the report is whole."""
        if not self.faults:
            return Gate("report", "whole", "whole", None, True)
        faults = "; ".join(fault.text for fault in self.faults[:SHOWN])
        more = len(self.faults) - SHOWN
        return failed_gate(
            "report", "whole", faults + (f"; and {more} more" if more > 0 else ""), f"{len(self.faults)} faults"
        )

    def value(self, *path: str) -> Any:
        return within(self._sound, *path)

    def section(self, name: str) -> Mapping[str, Any] | None:
        value = self.value(name)
        return value if isinstance(value, Mapping) else None

    def number(self, *path: str) -> float | None:
        return finite(self.value(*path))

    def text(self, name: str) -> str:
        return str(self.value(name) or "unknown")

    def why(self, section: str, otherwise: str) -> str:
        """Why a number of a section is missing: the first fault there, else that there is no section."""
        reason = next((fault.text for fault in self.faults if fault.keys[0] == section), None)
        return reason or ("the report lacks it" if self.section(section) is not None else otherwise)

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """The devices, by name."""
        devices = self.value("devices")
        rows = [row for row in devices if isinstance(row, Mapping)] if isinstance(devices, list) else []
        return {row["name"]: row for row in rows if isinstance(row.get("name"), str)}

    def latency_doubt(self) -> str:
        """Why the latency must not be believed; empty when it may be, or was not measured at all."""
        if self.section("latency") is None or self.value("latency", "valid") is True:
            return ""
        return f"not to be believed: {self.value('latency', 'reason') or self.why('latency', 'the report says so')}"

    def undecided(self, limit: float) -> str | None:
        """Say that a loss beyond `limit` points is within what chance explains, where it is."""
        low, high, n = (
            self.number("accuracy", *path) for path in (("difference", "low"), ("difference", "high"), ("n",))
        )
        if low is None or high is None or n is None or -low <= limit:
            return None
        needed = images_to_decide(int(n), low, high, -limit)
        would = f"n = {needed:,} would decide" if needed else "no number of images would decide so close to the limit"
        return (
            f"not decided with n = {n:,}: {would}; with {self.number('accuracy', 'difference', 'level') or 0.95:.0%} "
            f"confidence the change is between {low:+.2f} and {high:+.2f} points"
        )

    def at_chance(self) -> str | None:
        """Say that the float network itself answers no better than chance, where that is so."""
        accuracy = self.section("accuracy")
        return (
            chance_of(accuracy)
            if accuracy is not None and within(accuracy, "float") and within(accuracy, "n")
            else None
        )


def within(value: Any, *path: str) -> Any:
    """The value at `path` in objects inside each other; None where any of them is missing or no object."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def finite(value: Any) -> float | None:
    """`value` where it is a finite number; None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if -sys.float_info.max <= value <= sys.float_info.max else None  # an integer may be beyond floats
