"""Whether the latencies in a report may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.errors import TimingError

__all__ = ["check_believable"]


def check_believable(report: Mapping[str, Any]) -> None:
    """Raise `MeasurementError` where a latency in `report` must not be believed: what ``--strict`` insists on."""
    if not report["latency"]["valid"]:
        raise TimingError(
            f"latency of {report['model']} for {report['target']} must not be believed",
            why=str(report["latency"].get("reason")),
            hint="repeat with --force measure on a quiet machine",
        )
    for row in report.get("devices", ()):
        if not (row["valid"] or row.get("earlier")):
            raise TimingError(
                f"latency of {report['model']} for {report['target']} must not be believed",
                where=row["name"],
                why="; ".join(row["doubts"]),
                hint="remove the cause and build again; what is cached stays",
            )
