"""What a device said about a build, as a row of the report's `devices`. The raw facts are `device.json`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError, coded
from edgeq.measure.latency import moment_facts
from edgeq.measure.validity import activity
from edgeq.report.check import read_report
from edgeq.report.fields.device import Device
from edgeq.report.schema import pick, validate

__all__ = ["device_row", "elsewhere", "kept_rows", "slow_here", "with_devices"]

Facts = Mapping[str, Any]


def device_row(name: str, bench: Facts, answers: Facts | None = None) -> dict[str, Any]:
    """The row of the device `name`, from what `edgeq.device.job.bench` gives and, where there were images, what
    `edgeq.pipeline.ondevice.eval_on` does."""
    machine = {key: value for key, value in bench["machine"].items() if key != "model" or value}
    return pick(
        {
            **bench,
            "name": name,
            "machine": machine,
            "ops": bench["ops"] or (answers or {}).get("ops", {}),
            "accuracy": _accuracy(answers) if answers else None,
            "latency": _latency(bench),
            "notes": list(bench.get("notes", ())),
            "before": moment_facts(bench["before"]),
            "after": moment_facts(bench["after"]),
        },
        Device,
    )


def elsewhere(host: str, machine: str) -> str:
    """The warning of a build for `machine` processors that only a `host` one has run."""
    return coded("W200", f"measured on this {host} host, not on {machine}")


def slow_here(host: str, form: str, activations: str) -> str:
    """Why a file of this format and activation type is slow on a `host` processor; "" where it is not.

    onnxruntime's kernels for x86 take unsigned activations. It computes signed ones by slower ways, or in float.
    """
    if (host, form, activations) != ("x86_64", "onnx", "int8"):
        return ""
    text = (
        "onnxruntime's fast kernels for x86 take unsigned activations; this file has signed ones, which are fast on "
        "Arm, so its latency on this host says nothing: --target onnx-x86 makes the file to time here"
    )
    return coded("W201", text)


def with_devices(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`report` with these rows. It no longer warns that nothing was measured where the file is meant for, if it was."""
    settled = {elsewhere(report["conditions"]["architecture"], row["machine"]["architecture"]) for row in rows}
    warnings = [warning for warning in report["warnings"] if warning not in settled]
    return {**report, "warnings": warnings, "devices": [dict(row) for row in rows]}


def kept_rows(report: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What devices said of the build in `folder`, where its file is the one `report` is about.

    What they answered is left out where `report` is about other images.
    """
    try:
        before = read_report(folder)
    except ArtifactError:
        return []
    if validate(before) or any(before[key] != report[key] for key in ("artifact", "float")):
        return []
    measured = report["accuracy"] or report.get("regression") or report.get("embedding") or {}
    images = measured.get("sha256")
    rows = [{**row, "earlier": True} for row in before.get("devices", ())]
    return [row if (row["accuracy"] or {}).get("sha256") == images else {**row, "accuracy": None} for row in rows]


def _accuracy(answers: Facts) -> dict[str, Any]:
    return {
        **answers["outputs"],
        "metric": answers["metric"],
        "n": answers["images"],
        "score": answers["device_accuracy"].get("score"),
        "host_score": answers["host_accuracy"].get("score"),
        "agreement": answers["agreement"],
        "host_runtime": answers["host_runtime"],
        "sha256": answers["sha256"],
    }


def _latency(bench: Facts) -> dict[str, Any] | None:
    latency: Facts | None = bench["latency"]
    if latency is None or "ratio" not in latency:
        return None
    return {**latency, "conditions": activity(bench["before"], bench["after"], bench["machine"]["cores"])}
