"""What a stranger types first, and what is said where it is not quite right."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from console import one_line, run


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_version_of_the_program() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"edgeq {version('edgeq')}\n", "")


@pytest.mark.parametrize(("typed", "meant"), [(["biuld"], "build"), (["device", "prob"], "probe")])
def test_a_misspelt_verb_is_answered_with_the_nearest(typed: list[str], meant: str) -> None:
    result = run(*typed)
    assert (result.exit_code, f"Did you mean {meant!r}?" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("resnet50", ("unknown model 'resnet50'", "torchvision:resnet50")),
        ("MobilNet-V2", ("torchvision:mobilenet_v2",)),
        ("signs-mobilentv2", ("did you mean 'signs-mobilenetv2'?",)),
        ("net.onnx", ("is an exported file", "file.py:factory", "edgeq inspect net.onnx")),
        ("net.tflite", ("is an exported file", "edgeq inspect net.tflite")),
        ("net.safetensors", ("weights alone", "file.py:factory --weights net.safetensors")),
        ("nets/resnet", ("nets/resnet does not exist",)),
    ],
)
def test_what_is_no_model_says_what_to_type(model: str, parts: tuple[str, ...]) -> None:
    one_line(run("build", model, "--plan"), 2, *parts)


NETWORK = """
from torch import nn
def tiny(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
def grey(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
"""


def test_a_shape_in_the_other_order_is_answered_with_the_right_one() -> None:
    Path("net.py").write_text(NETWORK)
    known = ("--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--weights", "random", "--plan")
    one_line(run("build", "net.py:tiny", "--input-shape", "16,16,3", *known), 2, "16 channels", "did you mean 3,16,16?")
    one_line(run("build", "net.py:grey", "--input-shape", "16,16,1", "--plan"), 2, "did you mean 1,16,16?")
    one_line(run("build", "net.py:tiny", "--input-shape", "3,16,3", *known[2:], "--mean", ".5,.5", "--std", ".2"), 2)
    result = run("build", "net.py:grey", "--input-shape", "3,16,1", *known)
    one_line(result, 2, "(channels, height, width)", "it takes 1,3,16")


PRINTS = """
import torch
from torch import nn
print("while it is imported")
class Loud(nn.Module):
    def __init__(self):
        super().__init__()
        print("while it is made")
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
    def forward(self, x):
        print("while it runs")
        return self.fc(self.conv(x).mean((2, 3)))
"""


def test_what_a_network_prints_stays_out_of_json() -> None:
    Path("loud.py").write_text(PRINTS)
    known = ("--input-shape", "3,8,8", "--mean", ".5,.5,.5", "--std", ".2,.2,.2", "--weights", "random")
    result = run("build", "loud.py:Loud", *known, "--plan", "--json")
    assert json.loads(result.stdout)["model"] == "loud-Loud"
    assert "while it is imported" in result.stderr
