"""Devices in a report: a row of what a device says, on the page in words and bars, and limits to hold it to."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.config.build import Budget
from edgeq.errors import ArtifactError
from edgeq.measure.latency import latency_facts
from edgeq.report.check import check
from edgeq.report.device import device_row, elsewhere, kept_rows, slow_here, with_devices
from edgeq.report.pages.charts import Timed, comparison_chart
from edgeq.report.pages.report import render
from edgeq.report.schema import to_text, validate

Report = Callable[..., dict[str, Any]]
Build = Callable[..., Path]

ATTACK = "<script>alert(1)</script>"


def moment(**changes: Any) -> dict[str, Any]:
    return {
        "clock": 1.0,
        "own": 0.5,
        "busy": 2.0,
        "load": 0.2,
        "frequency_khz": {0: 1_500_000, 1: 1_800_000},
        "governors": {"cpu0": "ondemand", "cpu1": "ondemand"},
        "temperature_c": 51.0,
        "throttled": 0,
        "affinity": [1],
        "stolen": 0.0,
        "heat_events": 0,
    } | changes


def bench(**changes: Any) -> dict[str, Any]:
    """What `edgeq.device.job.bench` gives for a board."""
    times = latency_facts([8.0] * 400, [3.9, *[4.0] * 398, 4.4], inferences=1, threads=1, doubts=())
    return {
        "machine": {
            "cpu": "Raspberry Pi 4",
            "parts": ["0xd08"],
            "architecture": "aarch64",
            "cores": 4,
            "big_cores": [],
            "flags": ["asimd"],
            "dot_product": False,
            "system": "Linux 6.6",
            "libc": "glibc 2.36",
            "python": "3.11.2",
            "bits": 64,
            "emulated": None,
        },
        "runtime": "ai-edge-litert 2.3.0",
        "kernels": "xnnpack",
        "ops": {"DELEGATE": 1},
        "threads": 1,
        "latency": times,
        "valid": True,
        "doubts": [],
        "affinity": [1],
        "peak_bytes": 60_000_000,
        "before": moment(),
        "after": moment(frequency_khz={}, clock=5.0, own=4.5, busy=7.0, stolen=0.4),
        "samples": {"model": [4.0]},
    } | changes


def answers(report: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What `eval_on` gives for the images the build was measured on."""
    score = report["accuracy"]["integer"]["score"]
    return {
        "metric": "top-1",
        "images": 2000,
        "device_accuracy": {"score": score - 0.5},
        "host_accuracy": {"score": score},
        "agreement": 0.99,
        "host_runtime": "litert",
        "sha256": "same",
        "outputs": {"values": 40_000, "equal": 0.9, "integer": True, "one_step": 0.1, "max_difference": 1.0},
        "ops": {},
    } | changes


@pytest.fixture
def measured(report: Report) -> Callable[..., dict[str, Any]]:
    """A report with one device; `spoil` may change its row first."""

    def make(spoil: Callable[[dict[str, Any]], Any] = lambda _: None, **changes: Any) -> dict[str, Any]:
        made = report()
        made["accuracy"]["sha256"] = "same"
        row = device_row("pi@board", bench(**changes), answers(made))
        spoil(row)
        return with_devices(made, [row])

    return make


def test_a_row_keeps_what_matters(measured: Callable[..., dict[str, Any]]) -> None:
    made = measured()
    assert validate(made) == []
    (row,) = made["devices"]
    assert row["before"]["frequency_mhz"] == 1800.0  # of the core that was used
    assert row["after"]["frequency_mhz"] is None
    assert row["before"]["governors"] == ["ondemand"]
    assert row["latency"].keys() == made["latency"].keys() - {"samples"}
    assert row["latency"]["integer_median_ms"] == 4.0
    assert row["latency"]["conditions"] == {"others": 0.25, "stolen": 0.025, "processor_share": 1.0}
    assert row["accuracy"]["values"] == 40_000
    assert "samples" not in row
    assert "thermal_status" not in row["before"]
    del row["machine"]["cpu"]
    with pytest.raises(ArtifactError, match=r"devices\[0\]\.machine\.cpu is missing"):
        to_text(made)


def test_a_file_that_ran_where_it_is_meant_for_is_no_longer_warned_about(report: Report) -> None:
    made = report(warnings=[elsewhere("aarch64", "armv7l"), "something else"])
    here = copy.deepcopy(bench()["machine"])
    other = with_devices(made, [device_row("pi@board", bench(machine=here))])
    assert other["warnings"] == made["warnings"]
    same = with_devices(made, [device_row("pi@board", bench(machine=here | {"architecture": "armv7l"}))])
    assert same["warnings"] == ["something else"]


def test_the_page_says_what_the_device_said(measured: Callable[..., dict[str, Any]]) -> None:
    text = render(measured())
    for said in (
        "pi@board",
        "Raspberry Pi 4",
        "no dot-product instructions",
        "1 DELEGATE",
        "glibc 2.36",
        "60.00 MB",
        "90.00 % of 40,000 values",
        "this machine: integer",
        "pi@board: integer 4 ms",
    ):
        assert said in text, said
    assert "doubted" not in text.partition("</style>")[2]


def test_an_emulated_device_has_no_times_on_the_page(measured: Callable[..., dict[str, Any]]) -> None:
    machine = bench()["machine"] | {"emulated": "cortex-a72"}
    made = measured(machine=machine, latency=None, valid=False, doubts=["emulated: times are nobody's"])
    section = render(made).partition('<section id="devices">')[2].partition("</section>")[0]
    assert "No times: emulated: times are nobody&#39;s." in section
    assert "<svg" not in section
    assert "4 ms" not in section


def test_doubted_times_are_paler_and_say_why(measured: Callable[..., dict[str, Any]]) -> None:
    text = render(measured(valid=False, doubts=["the board reports throttled"]))
    assert "Do not believe its timings:" in text
    assert len(re.findall(r'<rect class="(integer|float) doubted"', text)) == 2


def test_names_of_devices_are_text(measured: Callable[..., dict[str, Any]]) -> None:
    def spoil(row: dict[str, Any]) -> None:
        row["name"] = row["machine"]["cpu"] = row["runtime"] = row["machine"]["emulated"] = ATTACK

    assert ATTACK not in render(measured(spoil))


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    chart = comparison_chart([Timed("a", 2.0, 8.0), Timed("b", None, None, "emulated"), Timed("c", 4.0, None)])
    assert chart is not None
    short, long, middle = chart.bars
    assert (long.width / short.width, middle.width / short.width) == (pytest.approx(4.0), pytest.approx(2.0))
    assert any(text == "emulated" for _, _, text in chart.texts)
    assert all(bar.y + bar.height <= chart.base for bar in chart.bars)
    assert all(x < chart.width for x, _, _ in chart.texts)
    assert comparison_chart([Timed("a", None, None)]) is None


LIMITS: dict[str, float] = {
    "max_device_drop": 2.0,
    "min_device_agreement": 0.98,
    "max_device_latency_ratio": 0.6,
    "max_device_ms": 4.0,
    "max_device_bytes": 64_000_000,
    "min_device_score": 93.0,
}


def _checked(build: Build, made: dict[str, Any], **limits: Any) -> dict[str, Any]:
    """The gates of limits, those that come before all limits being held."""
    gates = check(build(lambda report: report.update(made)), **limits).gates
    before = ("report", "artifact", "lock", "exactness", "min-images pi@board")
    assert all(gate.held for gate in gates if gate.name in before)
    return {gate.name: gate for gate in gates if gate.name not in before}


def test_limits_of_devices_are_those_of_a_budget() -> None:
    assert set(LIMITS) == {field.name for field in dataclasses.fields(Budget) if "device" in field.name}


def test_a_device_within_its_limits_holds(measured: Callable[..., dict[str, Any]], build: Build) -> None:
    made = measured()
    gates = _checked(build, made, **LIMITS)
    assert all(gate.held for gate in gates.values())
    assert set(gates) == {f"{name.replace('_', '-')} pi@board" for name in LIMITS}
    drop = made["accuracy"]["float"]["score"] - made["devices"][0]["accuracy"]["score"]
    assert gates["max-device-drop pi@board"].value == pytest.approx(drop)


@pytest.mark.parametrize("name", list(LIMITS))
def test_each_limit_can_be_missed(name: str, measured: Callable[..., dict[str, Any]], build: Build) -> None:
    tighter = LIMITS[name] * (1.02 if name.startswith("min") else 0.01)
    (gate,) = _checked(build, measured(), **{name: tighter}).values()
    assert not gate.held
    assert gate.margin is not None


@pytest.mark.parametrize(
    ("changes", "limit", "reason"),
    [
        ({"valid": False, "doubts": ["throttled"]}, "max_device_ms", "not to be believed: throttled"),
        ({"latency": None, "valid": False}, "max_device_latency_ratio", "not timed"),
        ({"peak_bytes": None}, "max_device_bytes", "memory was not measured"),
    ],
)
def test_what_cannot_be_judged_has_failed(
    changes: dict[str, Any], limit: str, reason: str, measured: Callable[..., dict[str, Any]], build: Build
) -> None:
    (gate,) = _checked(build, measured(**changes), **{limit: 1e9}).values()
    assert (gate.held, gate.reason) == (False, reason)


def test_other_images_prove_nothing(measured: Callable[..., dict[str, Any]], build: Build) -> None:
    def spoil(row: dict[str, Any]) -> None:
        row["accuracy"]["sha256"] = "other"

    (gate,) = _checked(build, measured(spoil), max_device_drop=50.0).values()
    assert (gate.held, gate.reason) == (False, "the device answered other images than the float network")


def test_few_images_on_a_device_judge_no_accuracy(measured: Callable[..., dict[str, Any]], build: Build) -> None:
    def spoil(row: dict[str, Any]) -> None:
        row["accuracy"]["n"] = 4

    folder = build(lambda report: report.update(measured(spoil)))
    result = check(folder, min_device_agreement=0.5)
    assert [gate.name for gate in result.gates if not gate.held] == ["min-images pi@board"]
    assert check(folder, min_device_agreement=0.5, min_images=4).held
    assert check(folder, max_device_ms=5.0).held


def test_two_rows_of_one_name_are_a_fault(measured: Callable[..., dict[str, Any]], build: Build) -> None:
    def spoil(report: dict[str, Any]) -> None:
        report.update(measured())
        report["devices"].append(copy.deepcopy(report["devices"][0]))

    result = check(build(spoil), max_device_ms=9.0)
    assert "devices[1].name is that of an earlier row" in str(result.gates[0].reason)


def test_a_device_nobody_measured_holds_nothing(
    measured: Callable[..., dict[str, Any]], report: Report, build: Build
) -> None:
    gates = _checked(build, measured(), max_device_drop=50.0, devices=("pi@board", "pi@other"))
    assert [gate.held for gate in gates.values()] == [True, False]
    assert gates["max-device-drop pi@other"].reason == "not measured there"
    (none,) = _checked(build, report(), max_device_drop=50.0).values()
    assert (none.held, "no device was measured" in (none.reason or "")) == (False, True)


def test_rows_outlast_a_build_of_the_same_file(measured: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    made = measured()
    (tmp_path / "report.json").write_text(to_text(made))
    again = {key: value for key, value in made.items() if key != "devices"}
    (row,) = kept_rows(again, tmp_path)
    assert row == made["devices"][0] | {"earlier": True}
    kept = with_devices(again, [row])
    assert validate(kept) == []
    assert "earlier build of this very file" in render(kept)
    other = copy.deepcopy(again)
    other["accuracy"]["sha256"] = "other images"
    assert kept_rows(other, tmp_path)[0]["accuracy"] is None
    assert kept_rows(other, tmp_path)[0]["latency"] == row["latency"]
    other["artifact"]["sha256"] = "0" * 64
    assert kept_rows(other, tmp_path) == []
    assert kept_rows(again, tmp_path / "nowhere") == []


def test_signed_activations_in_onnx_are_slow_on_x86_only() -> None:
    assert "--target onnx-x86" in slow_here("x86_64", "onnx", "int8")
    assert not slow_here("x86_64", "onnx", "uint8")
    assert not slow_here("x86_64", "tflite", "int8")
    assert not slow_here("aarch64", "onnx", "int8")


def test_energy_is_shown_with_its_conditions_or_the_reason(report: Report) -> None:
    known = {
        "reason": None,
        "mj": 60.0,
        "float_mj": 160.0,
        "idle_w": 2.0,
        "load_w": 5.0,
        "float_load_w": 6.0,
        "rails": 12,
        "readings": 15,
        "source": "vcgencmd pmic_read_adc",
    }
    rows = [device_row("pi@five", bench(energy=known)), device_row("pi@four", bench(energy={"reason": ATTACK}))]
    text = with_devices(report(), rows)
    assert validate(text) == []
    page = render(text)
    assert "60 mJ per inference, float 160 mJ (5.00 W less 2.00 W at rest, 12 rails" in page
    assert "not known: &lt;script&gt;" in page
