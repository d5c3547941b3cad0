"""`edgeq build --device`: from a checkpoint to accuracy and a verdict on another machine, in one command."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import nn

from edgeq.cli import cli
from edgeq.device.phone import PROGRAM
from edgeq.pipeline import ondevice
from tests.device.daemon import Phone
from tests.device.loopback import Board, executable

STANDIN = Path(__file__).with_name("standin.py")

NETWORK = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 4))
"""

TOML = """
name = "tiny"
[network]
factory = "network.py:tiny"
weights = "tiny.safetensors"
[input]
shape = [3, 8, 8]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[output]
task = "classification"
classes = 4
[evaluation]
images = "test.npz"
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ondevice, "bench", functools.partial(ondevice.bench, seconds=0.1))
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "model.toml").write_text(TOML)
    names: dict[str, object] = {}
    exec(NETWORK, names)  # noqa: S102
    torch.manual_seed(0)
    network: nn.Module = names["tiny"]()  # type: ignore[operator]
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "test.npz", images=rng.integers(0, 256, (4, 8, 8, 3), np.uint8), labels=np.arange(4))
    return "model.toml"


def _built(model: str, target: str, device: str) -> dict[str, object]:
    words = ["build", model, "--target", target, "--method", "noise", "--effort", "fast", "--output", "out"]
    done = CliRunner().invoke(cli, [*words, "--cache", "cache", "--device", device, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)["device"][device]
    assert json.loads(Path("out/device.json").read_text())[device] == found
    return found


def test_on_a_phone(phone: Phone, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = executable(tmp_path / "benchmark_model", f'exec {sys.executable} {STANDIN} "$@"')
    monkeypatch.setenv(PROGRAM, str(program))
    found = _built(model, "tflite-android", f"adb:{phone.serial}")
    assert found["eval"]["outputs"]["equal"] == 1.0  # type: ignore[index]
    assert found["eval"]["agreement"] == 1.0  # type: ignore[index]
    assert found["bench"]["machine"]["abis"][0] == "arm64-v8a"  # type: ignore[index]
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
    found = _built(model, "tflite-pi5", board.host)
    assert found["eval"]["outputs"]["equal"] == 1.0  # type: ignore[index]
    assert found["bench"]["latency"]["ratio"] > 0  # type: ignore[index]
    assert list((board.cache / "jobs").iterdir()) == []
