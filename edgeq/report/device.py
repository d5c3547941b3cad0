"""What a device said about a build, as a row of the report's `devices`. The raw facts are `device.json`'s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.report.check import read_report
from edgeq.report.devicefields import Device
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
            "latency": _latency(bench["latency"]),
            "notes": list(bench.get("notes", ())),
            "before": _moment(bench["before"]),
            "after": _moment(bench["after"]),
        },
        Device,
    )


def elsewhere(here: str, wanted: str) -> str:
    """The warning of a build for `wanted` processors that only a `here` one has run."""
    return f"measured on this {here} host, not on {wanted}"


def slow_here(here: str, form: str, activations: str) -> str:
    """Why a file of this format and activation type is slow on a `here` processor; "" where it is not.

    onnxruntime's kernels for x86 take unsigned activations. It computes signed ones by slower ways, or in float.
    """
    if (here, form, activations) != ("x86_64", "onnx", "int8"):
        return ""
    return (
        "onnxruntime's fast kernels for x86 take unsigned activations; this file has signed ones, which are fast on "
        "Arm, so its latency on this host says nothing: --target onnx-x86 makes the file to time here"
    )


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
    images = (report["accuracy"] or {}).get("sha256")
    rows = [{**row, "earlier": True} for row in before.get("devices", ())]
    return [row if (row["accuracy"] or {}).get("sha256") == images else {**row, "accuracy": None} for row in rows]


def _accuracy(answers: Facts) -> dict[str, Any]:
    return {
        **answers["outputs"],
        "metric": answers["metric"],
        "n": answers["images"],
        "score": answers["device_accuracy"]["score"],
        "host_score": answers["host_accuracy"]["score"],
        "agreement": answers["agreement"],
        "host_runtime": answers["host_runtime"],
        "sha256": answers["sha256"],
    }


def _latency(found: Facts | None) -> dict[str, Any] | None:
    if found is None or "float" not in found:
        return None
    return {
        "ratio": found["ratio"],
        "float_median_ms": found["float"]["median_ms"],
        "integer_median_ms": found["model"]["median_ms"],
        "p90_ms": found["model"]["p90_ms"],
        "runs": found["model"]["runs"],
    }


def _moment(moment: Facts) -> dict[str, Any]:
    clocks = {int(core): khz for core, khz in moment["frequency_khz"].items()}
    used = _used(clocks, moment["affinity"])
    found = {
        "load": moment["load"],
        "frequency_mhz": sum(used) / len(used) / 1000 if used else None,
        "temperature_c": moment["temperature_c"],
        "governors": sorted({str(name) for name in moment["governors"].values() if name}),
        "throttled": moment["throttled"],
    }
    if "thermal_status" in moment:
        found |= {"thermal_status": moment["thermal_status"], "battery_percent": moment["battery"]["percent"]}
    return found


def _used(clocks: Mapping[int, float], affinity: Sequence[int]) -> list[float]:
    return [khz for core, khz in clocks.items() if core in affinity] or list(clocks.values())
