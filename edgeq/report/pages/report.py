"""report.html: one file that needs nothing else, read on any screen, in light and dark, on paper.

Everything in a report may come from a stranger's model file, so the template escapes whatever it prints; the only
markup let through is the package's own style sheet and the pictures, as data.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from edgeq.errors import printable
from edgeq.measure.energy import energy_text
from edgeq.report.advice import steps
from edgeq.report.lock import portable
from edgeq.report.loss import loss_of
from edgeq.report.metric import metric_of, score_of
from edgeq.report.pages.charts import Comparison, Curve, Timed, comparison_chart, curve_chart, histogram
from edgeq.report.pages.confusion import changed_answers, confusion_grid, disagreement_table
from edgeq.report.pages.figures import bytes_text, count_text, ms_text, share_text, signed_text
from edgeq.report.pages.layers import FAIR, POOR, layer_strip, layers_table, noisiest_table, sizes
from edgeq.report.pages.pictures import calibration_sheet, disagreement_pictures
from edgeq.report.pages.tables import accuracy_table, class_table, devices_table, latency_table, regression_table
from edgeq.report.programs import programs
from edgeq.report.schema import validate

__all__ = ["render", "template", "timed_row"]

_SHARES = {
    "rejected": "were made anew because the network saw another class in them than meant",
    "wrong": "still show it another class",
}


def render(
    report: Mapping[str, Any],
    *,
    calibration: bytes | None = None,
    disagreements: bytes | None = None,
    folder: str | None = None,
    rebuild: str | None = None,
    siblings: Mapping[str, str] | None = None,
) -> str:
    """The page of a whole `report` (see `edgeq.report.schema`).

    `calibration` is the contact sheet of calibration images, `disagreements` that of evaluation images which float and
    integer answer differently; both are PNG files. `folder` is the build's folder and `rebuild` the command line that
    made it, both as the user would type them; by default what they are by default. Of an absolute `folder` only the
    last part is shown: a page that is sent around names no folder of a machine. `siblings` are relative links to the
    reports of other targets. Raises `ValueError` for a report that is not whole, or a picture that is no PNG.
    """
    faults = validate(report)
    if faults:
        raise ValueError(f"not a whole report: {faults[0]}")
    target, model = report["target"], report["model"]
    folder = portable(folder) if folder else f"build/{model}-{target}"
    rebuild = rebuild or f"edgeq build {shlex.quote(model)} --target {shlex.quote(target)}"
    latency, layers = report["latency"] or {}, report["layers"]
    samples = latency.get("samples") or {"float_ms": [], "integer_ms": []}
    return template("report.html.j2").render(
        r=report,
        siblings=siblings or {},
        loss=loss_of(report),
        verdict=_verdict(report),
        warnings=_warnings(report),
        accuracy=_accuracy(report),
        shown=None if disagreements is None else disagreement_pictures(disagreements, report["accuracy"] or {}),
        regression=regression_table(report["regression"]) if "regression" in report else None,
        calibration=None if calibration is None else calibration_sheet(calibration, report["synthesis"]),
        notes=_notes(report["synthesis"].get("notes", {})),
        strip=layer_strip(layers),
        noisiest=noisiest_table(layers),
        layers=layers_table(layers),
        sizes=sizes(report),
        poor=POOR,
        fair=FAIR,
        latency=latency_table(latency) if latency else None,
        times=histogram([("float", "float", samples["float_ms"]), ("integer", "integer", samples["integer_ms"])]),
        devices=devices_table(report["devices"]) if report.get("devices") else None,
        there=_there(report),
        curves=_curves(report.get("finetune")),
        stages=_stages(report["seconds"]),
        steps=steps(report, folder, rebuild),
        programs=programs(report),
    )


def _accuracy(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the page says of scores; None where none were measured."""
    accuracy = report["accuracy"]
    if accuracy is None:
        return None
    metric, confusion = metric_of(accuracy), accuracy.get("confusion")
    before, after = (score_of(accuracy, which) for which in ("float", "integer"))
    counted = "pixels" if metric == "mIoU" else "images"
    return {
        "metric": metric,
        "things": "pairs" if metric == "verification" else "images",
        "float": before,
        "integer": after,
        "table": accuracy_table(report),
        "classes": class_table(accuracy),
        "grid": confusion_grid(confusion, counted) if confusion else None,
        "changed": changed_answers(confusion) if confusion else None,
        "disagreements": disagreement_table(accuracy),
    }


def _warnings(report: Mapping[str, Any]) -> list[str]:
    """Everything to know before shipping, each once. Other parts of the page only refer to it."""
    warnings, latency = list(dict.fromkeys(report["warnings"])), report["latency"]
    if latency is not None and not latency["valid"]:
        reason = latency.get("reason") or "the report calls it invalid"
        if not any(reason in warning for warning in warnings):
            warnings.append(f"latency is not to be believed: {reason}")
    return [f"{warning[:1].upper()}{warning[1:]}" for warning in warnings]


def _notes(notes: Mapping[str, float]) -> list[str]:
    """The numbers that a method reports about its images, in words where this page has them."""
    return [
        f"{share_text(value)} {_SHARES[name]}"
        if name in _SHARES
        else f"{name.replace('_', ' ').capitalize()}: {value:.4g}"
        for name, value in notes.items()
    ]


def template(name: str) -> Template:
    """A page of this package's `templates`, by file name; it may use the filters below and `style`."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    loader = PackageLoader("edgeq.report.pages", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_controls,
    )
    environment.filters |= {
        "bytes": bytes_text,
        "count": count_text,
        "energy": energy_text,
        "ms": ms_text,
        "share": share_text,
        "signed": signed_text,
    }
    style = loader.get_source(environment, "report.css")[0]
    environment.globals["style"] = Markup(style)  # noqa: S704  our own file, no input in it
    return environment


def _escape_controls(value: Any) -> Any:
    """Spell out characters that would turn the direction of reading or hide. Jinja calls it for all it prints."""
    return printable(value, keep="\n\t") if type(value) is str else value


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
