"""report.html: one file that needs nothing else, read on any screen, in light and dark, on paper.

Everything in a report may come from a stranger's model file, so the template escapes whatever it prints; the only
markup let through is the package's own style sheet and the pictures, as data.
"""

from __future__ import annotations

import base64
import functools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from edgeq.errors import printable
from edgeq.report.advice import steps
from edgeq.report.charts import (
    FAIR,
    POOR,
    Comparison,
    Curve,
    Timed,
    comparison_chart,
    curve_chart,
    histogram,
    layer_chart,
)
from edgeq.report.lock import portable
from edgeq.report.loss import loss_of
from edgeq.report.programs import programs
from edgeq.report.schema import validate

__all__ = ["data_uri", "render", "template", "timed_row"]

_SHARES = {
    "rejected": "were made anew because the network saw another class in them than meant",
    "wrong": "still show it another class",
}

WORST = 8
"""Layers listed by name below the chart."""


def render(
    report: Mapping[str, Any],
    *,
    pictures: Sequence[bytes] = (),
    folder: str | None = None,
    rebuild: str | None = None,
) -> str:
    """The page of a whole `report` (see `edgeq.report.schema`).

    `pictures` are PNG files, the contact sheet of calibration images first. `folder` is the build's folder and
    `rebuild` the command line that made it, both as the user would type them; by default what they are by default.
    Of an absolute `folder` only the last part is shown: a page that is sent around names no folder of a machine.
    Raises `ValueError` for a report that is not whole, or a picture that is no PNG.
    """
    faults = validate(report)
    if faults:
        raise ValueError(f"not a whole report: {faults[0]}")
    target, model = report["target"], report["model"]
    folder = portable(folder) if folder else f"build/{model}-{target}"
    rebuild = rebuild or f"edgeq build {shlex.quote(model)} --target {shlex.quote(target)}"
    latency = report["latency"] or {}
    samples = latency.get("samples") or {"float_ms": [], "integer_ms": []}
    return template("report.html.j2").render(
        r=report,
        pictures=[data_uri(picture) for picture in pictures],
        notes=_notes(report["synthesis"].get("notes", {})),
        layers=layer_chart(report["layers"]),
        worst=sorted(report["layers"], key=lambda row: row["sqnr_db"])[:WORST],
        poor=POOR,
        fair=FAIR,
        times=histogram([("float", "float", samples["float_ms"]), ("integer", "integer", samples["integer_ms"])]),
        there=_there(report),
        curves=_curves(report.get("finetune")),
        stages=_stages(report["seconds"]),
        steps=steps(report, folder, rebuild),
        loss=loss_of(report),
        programs=programs(report),
        verdict=_verdict(report),
    )


def _notes(notes: Mapping[str, float]) -> list[str]:
    """What a method tells about its images, in words where this page has them."""
    return [
        f"{_share(value)} {_SHARES[name]}" if name in _SHARES else f"{name.replace('_', ' ').capitalize()}: {value:.4g}"
        for name, value in notes.items()
    ]


def template(name: str) -> Template:
    """A page of this package's `templates`, by file name; it may use the filters below and `style`."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("edgeq.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_controls,
    )
    environment.filters |= {"bytes": _bytes, "count": _count, "ms": _ms, "share": _share, "signed": _format_signed}
    style = loader.get_source(environment, "report.css")[0]
    environment.globals["style"] = Markup(style)  # noqa: S704  our own file, no input in it
    return environment


def _escape_controls(value: Any) -> Any:
    """What is printed into a page: text that would turn the direction of reading, or hide, is spelt out."""
    return printable(value, keep="\n\t") if type(value) is str else value


def data_uri(picture: bytes) -> str:
    """A PNG inside the page. Raises `ValueError` for anything else."""
    if not picture.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("a picture of the report is not a PNG")
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _verdict(report: Mapping[str, Any]) -> str:
    """Size and time in one sentence, only what was measured."""
    smaller = report["float"]["bytes"] / max(report["artifact"]["bytes"], 1)
    parts = [f"{smaller:.1f} times smaller than float"]
    latency = report["latency"]
    if latency is not None and latency["valid"]:
        ratio = latency["ratio"]
        faster = f"{1 / ratio:.2f} times as fast" if ratio <= 1 else f"{ratio:.2f} times the time"
        parts.append(f"{faster} on this machine")
    return ", ".join(parts).capitalize() + "."


def _there(report: Mapping[str, Any]) -> Comparison | None:
    """The timings of this machine and of devices, where a device has any."""
    rows = report.get("devices", [])
    if not any(row["latency"] for row in rows):
        return None
    host = report["latency"]
    first = [Timed("this machine", *_both(host), host.get("reason") or "")] if host else []
    return comparison_chart([*first, *(timed_row(row, row["name"]) for row in rows)])


def timed_row(row: Mapping[str, Any], label: str) -> Timed:
    """A row of `devices` as a line of a comparison."""
    return Timed(label, *_both(row["latency"]), "" if row["valid"] else "; ".join(row["doubts"]))


def _both(latency: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    return (latency["integer_median_ms"], latency.get("float_median_ms")) if latency else (None, None)


_CURVES = {
    "held_out": "gap to the float network's outputs on held-out synthetic images",
    "student": "loss of the quantized network",
    "generator": "loss of the generator",
}


def _curves(tuned: Mapping[str, Any] | None) -> list[Curve]:
    drawn = [curve_chart(text, tuned["curves"][name]) for name, text in _CURVES.items()] if tuned else []
    return [curve for curve in drawn if curve is not None]


def _stages(seconds: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Stages that ran, with their share of the whole in percent."""
    known = {name: value for name, value in seconds.items() if value is not None}
    total = sum(known.values()) or 1.0
    return [{"name": name, "seconds": value, "percent": 100 * value / total} for name, value in known.items()]


def _bytes(count: float) -> str:
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _count(value: float) -> str:
    """Thousands apart; millions and above in short."""
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.2f} {unit}"
    return f"{value:,}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value >= 10 else f"{value:.3f}"


def _share(value: float) -> str:
    """A share as percent; what is not all of it never shows as 100."""
    if value == 1:
        return "100 %"
    return f"{min(100 * value, 99.99):.2f} %"


def _format_signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
