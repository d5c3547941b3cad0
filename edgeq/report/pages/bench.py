"""The page of `edgeq bench --html`: files and devices side by side, with what each device was doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeq.report.device import device_row
from edgeq.report.pages.charts import Comparison, Timed, comparison_chart
from edgeq.report.pages.report import template

__all__ = ["render_comparison"]

Result = Mapping[str, Any]


def render_comparison(results: Sequence[Result]) -> str:
    """The page of what `edgeq bench` measured, in its order: facts of `edgeq.device.job.bench`, with `artifact` and
    `device` by name."""
    rows = [{"artifact": each["artifact"], **device_row(each["device"], each)} for each in results]
    return template("comparison.html.j2").render(
        rows=rows, times=[each["latency"] for each in results], charts=list(_charts(results))
    )


def _charts(results: Sequence[Result]) -> Iterator[tuple[str, Comparison]]:
    """Devices of each file beside one another, and files on each device, as far as there are several."""
    several = {key: len({each[key] for each in results}) > 1 for key in ("artifact", "device")}
    for key, other in (("artifact", "device"), ("device", "artifact")):
        if not several[other] and (several[key] or key == "device"):
            continue
        for name in dict.fromkeys(each[key] for each in results):
            chart = comparison_chart(list(_lines([each for each in results if each[key] == name], other)))
            if chart is not None:
                yield name, chart


def _lines(results: Sequence[Result], label: str) -> Iterator[Timed]:
    """One line per measurement; those of `--repeat` are counted."""
    seen: Counter[str] = Counter()
    for each in results:
        name, times = each[label], each["latency"] or {}
        seen[name] += 1
        own, base = times.get("integer_median_ms"), times.get("float_median_ms")
        doubt = "" if each["valid"] else "; ".join(each["doubts"])
        yield Timed(name if seen[name] == 1 else f"{name}, again ({seen[name]})", own, base, doubt)
