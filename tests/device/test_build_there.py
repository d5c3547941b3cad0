"""`edgeq build --device`: from a checkpoint to accuracy and a verdict on another machine, in one command."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.job import Pace
from edgeq.device.runners import phone as runner
from edgeq.device.runners.phone import PROGRAM
from edgeq.errors import DeviceError
from edgeq.pipeline import ondevice
from tests.device.daemon import Phone
from tests.device.loopback import Board, executable
from tests.tinymodel import keep, made, model_toml

GATE = ("--min-device-agreement", "1", "--min-images", "2")

NETWORK = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 4))
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ondevice, "bench", functools.partial(ondevice.bench, pace=Pace(seconds=0.1)))
    keep(tmp_path, NETWORK, model_toml(side=8), made(NETWORK))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "test.npz", images=rng.integers(0, 256, (2, 8, 8, 3), np.uint8), labels=np.arange(2))
    return "model.toml"


def _built(model: str, target: str, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    words = ["build", model, "--target", target, "--method", "noise", "--effort", "fast", "--output", "out"]
    done = CliRunner().invoke(cli, [*words, "--cache", "cache", "--device", device, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert json.loads(Path("out/report.json").read_text()) == report
    assert [row["name"] for row in report["devices"]] == [device]
    assert device in Path("out/report.html").read_text()
    raw: dict[str, object] = json.loads(Path("out/device.json").read_text())[device]
    return report, raw


def test_on_a_phone(phone: Phone, model: str, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRAM, str(program))
    monkeypatch.setattr(runner, "PAIRS", 1)
    report, found = _built(model, "tflite-android", f"adb:{phone.serial}")
    assert found["bench"]["machine"]["abis"][0] == "arm64-v8a"
    (row,) = report["devices"]
    assert row["accuracy"]["equal"] == row["accuracy"]["agreement"] == 1.0
    assert row["machine"]["model"] == "Example Test Phone"
    assert row["runtime"].startswith("benchmark_model ")
    assert (row["before"]["thermal_status"], row["before"]["battery_percent"]) == (0, 85)
    assert row["latency"]["integer_median_ms"] == found["bench"]["latency"]["integer_median_ms"]
    held = CliRunner().invoke(cli, ["check", "out", "--device", "adb", *GATE, "--json"])
    assert held.exit_code == 0, held.output
    shown = CliRunner().invoke(cli, ["eval", "out", "--device", f"adb:{phone.serial}", "--limit", "2"])
    assert shown.exit_code == 0, shown.output
    assert "same answer to 100.00 % of 2 images" in shown.stdout
    assert "100.000 % of 8 output values equal" in shown.stdout


def test_what_a_device_cannot_do_is_found_before_any_work(
    phone: Phone, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROGRAM, raising=False)
    words = ["build", model, "--output", "out", "--quiet", "--device"]
    for device, target, said in (
        ("adb", "tflite-android", "nobody has said where it is"),
        ("adb", "onnx-android", "ONNX files cannot be run on Android"),
        ("adb:gone", "tflite-android", "no device of that serial"),
    ):
        done = CliRunner().invoke(cli, [*words, device, "--target", target])
        assert done.exit_code == 4, done.output
        assert said in done.output
    assert not Path("out").exists()


def test_on_a_board(board: Board, model: str) -> None:
    report, found = _built(model, "tflite-pi5", board.host)
    (row,) = report["devices"]
    assert row["accuracy"]["equal"] == 1.0
    assert row["accuracy"]["score"] == report["accuracy"]["integer"]["score"]
    assert row["accuracy"]["sha256"] == report["accuracy"]["sha256"]
    assert row["latency"]["ratio"] == found["bench"]["latency"]["ratio"] > 0
    assert row["peak_bytes"] == found["bench"]["peak_bytes"]
    assert list((board.cache / "jobs").iterdir()) == []


def test_an_arm_in_edgeq_toml_is_measured_and_gated(board: Board, model: str) -> None:
    """A team's file names the board: a build measures there, a check holds it to the team's limits."""
    (board.home / "sitecustomize.py").write_text("import platform\nplatform.machine = lambda: 'aarch64'\n")
    says = f'EDGEQ_EMULATED=cortex-a72 PYTHONPATH="{board.home}:$PYTHONPATH"'
    executable(board.shims / "python3", f'{says} exec {sys.executable} "$@"')
    limits = "max_device_drop = 0.0\nmin_device_agreement = 1.0\nmin_images = 2"
    settings = f'model = "{model}"\ntarget = "tflite-pi4"\nmethod = "noise"\noutput = "out"\ndevice = "{board.host}"\n'
    Path("edgeq.toml").write_text(f"{settings}[budget]\n{limits}\n")
    done = CliRunner().invoke(cli, ["build", "--effort", "fast"])
    assert done.exit_code == 0, done.output
    assert f"measuring on {board.host}" in done.stderr
    assert "emulated: its integers and accuracy are valid, its times are not" in done.stdout
    report = json.loads(Path("out/report.json").read_text())
    (row,) = report["devices"]
    assert (row["machine"]["emulated"], row["latency"], row["valid"]) == ("cortex-a72", None, False)
    assert (row["machine"]["architecture"], row["accuracy"]["equal"]) == ("aarch64", 1.0)
    assert not [warning for warning in report["warnings"] if "host, not on aarch64" in warning]
    held = CliRunner().invoke(cli, ["check", "out", "--json"])
    assert held.exit_code == 0, held.output
    assert [gate["name"] for gate in json.loads(held.stdout)["builds"][0]["rows"][4:]] == [
        f"min-images {board.host}",
        f"max-device-drop {board.host}",
        f"min-device-agreement {board.host}",
    ]
    missed = CliRunner().invoke(cli, ["check", "out", "--max-device-latency-ratio", "9"])
    assert missed.exit_code == 1
    assert "cortex-a72 is emulated" in missed.output


def test_a_device_that_fails_leaves_the_build_as_it_was(
    board: Board, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise DeviceError("the connection to the device is lost")

    monkeypatch.setattr(ondevice, "bench", gone)
    words = ["build", model, "--target", "tflite-pi5", "--method", "noise", "--effort", "fast", "--output", "out"]
    done = CliRunner().invoke(cli, [*words, "--device", board.host, "--quiet"])
    assert done.exit_code == 4, done.output
    assert "devices" not in json.loads(Path("out/report.json").read_text())
    assert not Path("out/device.json").exists()


def test_what_a_device_said_outlasts_a_build_of_the_same_file(model: str) -> None:
    report, raw = _built(model, "tflite-x86", "local")

    def again(*more: str) -> dict[str, Any]:
        words = ["build", model, "--target", "tflite-x86", "--method", "noise", "--effort", "fast", "--output", "out"]
        done = CliRunner().invoke(cli, [*words, "--cache", "cache", *more])
        assert done.exit_code == 0, done.output
        assert ("by an earlier build of this very file" in done.stderr) == ("local" in done.stderr)
        made: dict[str, Any] = json.loads(Path("out/report.json").read_text())
        return made

    (row,) = again()["devices"]
    assert row == report["devices"][0] | {"earlier": True}
    assert json.loads(Path("out/device.json").read_text())["local"] == raw
    assert "devices" not in again("--bits", "w6a8")
    assert not Path("out/device.json").exists()
