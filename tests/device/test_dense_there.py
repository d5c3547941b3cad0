"""Segmenters and detectors on a device: outputs come in the file's own layout, and score what the build's did."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.userland import Userland
from tests.device.conftest import arm_python
from tests.device.daemon import Phone
from tests.device.loopback import Board, executable

NETWORKS = """
import torch
from torch import nn

class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.logits, self.deltas = nn.Conv2d(8, 2 * 2, 1), nn.Conv2d(8, 2 * 4, 1)

    def forward(self, x):
        x = self.body(x)
        rows = [(self.logits(x), 2), (self.deltas(x), 4)]
        return tuple(y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, n) for y, n in rows)

def detector():
    torch.manual_seed(1)
    return Detector()

def segmenter():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
"""

TASKS = {
    "segmentation": 'kind = "segmentation"\nclasses = ["ground", "left", "right"]',
    "detection": 'kind = "detection"\nclasses = ["thing"]\nmaps = [[4, 6]]\nsizes = [[3, 5]]',
}
FACTORIES = {"segmentation": ("segmenter", 3), "detection": ("detector", 2)}


def _model(folder: Path, task: str) -> str:
    """A model.toml of a random network for images 8 high and 12 wide, so that a layout mistaken for another shows."""
    factory, classes = FACTORIES[task]
    (folder / "network.py").write_text(NETWORKS)
    names: dict[str, Any] = {}
    exec(NETWORKS, names)  # noqa: S102
    torch.save(names[factory]().state_dict(), folder / "weights.pt")
    rng = np.random.default_rng(0)
    truths: dict[str, Any] = {"masks": rng.integers(0, 3, (5, 8, 12), np.uint8)}
    if task == "detection":
        corner = rng.uniform(0, 0.5, (5, 2))
        truths = {"boxes": np.hstack([corner, corner + 0.4]), "labels": np.zeros(5, int), "image": np.arange(5)}
    np.savez(folder / "test.npz", images=rng.integers(0, 256, (5, 8, 12, 3), np.uint8), **truths)
    (folder / "model.toml").write_text(
        f'name = "tiny-{task}"\n[network]\nfactory = "network.py:{factory}"\nweights = "weights.pt"\n'
        f"[input]\nshape = [3, 8, 12]\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n"
        f'[output]\ntask = "{task}"\nclasses = {classes}\n[task]\n{TASKS[task]}\n[evaluation]\nimages = "test.npz"\n'
    )
    return "model.toml"


def _build(target: str) -> dict[str, Any]:
    words = ["build", "model.toml", "--target", target, "--method", "noise", "--effort", "fast", "--output", "out"]
    done = CliRunner().invoke(cli, [*words, "--cache", "cache", "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _eval(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli, ["eval", "out", "--json", *words])
    assert done.exit_code == 0, done.output
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.mark.parametrize("target", ["tflite-arm", "onnx-arm"])
@pytest.mark.parametrize("task", list(TASKS))
def test_a_device_scores_what_the_build_scored(
    task: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _model(tmp_path, task)
    report = _build(target)
    facts = _eval("--device", "local")
    built = report["accuracy"]
    assert built["integer"]["score"] > 0
    assert facts["metric"] == built["metric"]
    assert facts["device_accuracy"] == facts["host_accuracy"] == built["integer"]
    assert facts["agreement"] == facts["outputs"]["equal"] == 1.0
    assert facts["outputs"]["values"] == 5 * (3 * 4 * 6 if task == "segmentation" else 4 * 6 * 2 * (2 + 4))


@pytest.mark.parametrize(("task", "cpu"), [("segmentation", "cortex-a72"), ("detection", "cortex-a76")])
def test_arm_kernels_answer_dense_tasks(
    task: str, cpu: str, board: Board, userland: Userland, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those for all processors, and those of a processor with dot products."""
    monkeypatch.chdir(tmp_path)
    _model(tmp_path, task)
    report = _build("tflite-pi4")
    arm_python(board, userland, "litert", cpu)
    facts = _eval("--device", board.host)
    assert facts["machine"]["emulated"] == cpu
    assert facts["machine"]["dot_product"] == (cpu == "cortex-a76")
    assert facts["device_accuracy"] == report["accuracy"]["integer"]
    assert facts["outputs"]["equal"] == 1.0
    executable(board.shims / "python3", f'exec {sys.executable} "$@"')  # what follows is not about its kernels
    both = CliRunner().invoke(cli, ["eval", "out", "--device", "local", "--device", board.host, "--limit", "2"])
    assert both.exit_code == 0, both.output
    assert [line.split()[:2] for line in both.stdout.splitlines()[1:]] == [["out", "local"], ["out", board.host]]
    assert both.stdout.count("100.000 %") == 2


@pytest.mark.parametrize("task", list(TASKS))
def test_a_phone_answers_dense_tasks(
    task: str, phone: Phone, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tool writes all outputs of an image one after another, in the file's own order and layout."""
    monkeypatch.chdir(tmp_path)
    _model(tmp_path, task)
    _build("tflite-android")
    facts = _eval("--device", f"adb:{phone.serial}", "--benchmark-model", str(program), "--limit", "2")
    assert facts["device_accuracy"] == facts["host_accuracy"]
    assert facts["outputs"]["equal"] == 1.0
    assert facts["outputs"]["values"] == 2 * (3 * 4 * 6 if task == "segmentation" else 4 * 6 * 2 * (2 + 4))
