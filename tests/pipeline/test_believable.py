"""What a build says about numbers that mean little: labels that were guessed, answers by chance, one logit, joins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeq.config.build import BuildConfig
from edgeq.errors import MeasurementError
from edgeq.model.load import load_model
from edgeq.pipeline.build import build
from edgeq.report.check import check
from tests.tinymodel import keep, made, model_toml

ONE = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))
"""

JOIN = """
import torch
from torch import nn

class Join(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size, self.box, self.score = size, nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(3, 4, 3, 2, 1)
    def forward(self, x):
        return torch.cat([torch.sigmoid(self.box(x)) * self.size, torch.sigmoid(self.score(x))], 1)

def tiny():
    return nn.Sequential(Join(320.0), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def pictures(count: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.asarray(
        np.clip(rng.uniform(20, 235, (count, 1, 1, 3)) + rng.normal(0, 40, (count, 16, 16, 3)), 0, 255), np.uint8
    )


def one_logit(folder: Path, classes: int) -> npt.NDArray[np.bool_]:
    """A network of one logit that says yes to half of 120 images, with these answers as labels; the answers."""
    network = made(ONE).eval()
    images = pictures(120)
    inputs = torch.from_numpy((images / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        ordered = network(inputs)[:, 0].sort().values
        network[4].bias -= (ordered[59] + ordered[60]) / 2  # no image so near 0 that rounding decides
        yes = network(inputs)[:, 0].numpy() > 0
    keep(folder, ONE, model_toml(classes=classes), network)
    np.savez(folder / "test.npz", images=images, labels=yes.astype(np.int64))
    return np.asarray(yes)


@pytest.mark.parametrize("classes", [1, 2])
def test_one_logit_is_a_decision_between_two(config: BuildConfig, tmp_path: Path, classes: int) -> None:
    yes = one_logit(tmp_path, classes)
    assert load_model("model.toml").spec.classes == 1
    report = build(replace(config, bits="w2a8", all_layers=True, method="auto", targets=("onnx-x86",)))
    accuracy = report["accuracy"]
    assert accuracy["float"]["top1"] == 100.0
    assert accuracy["chance"] == pytest.approx(100 * (yes.mean() ** 2 + (1 - yes.mean()) ** 2))
    assert accuracy["agreement"] == accuracy["integer"]["top1"] / 100
    np.savez(tmp_path / "test.npz", images=pictures(120), labels=(~yes).astype(np.int64))
    other = build(replace(config, bits="w2a8", all_layers=True, method="auto", targets=("onnx-x86",)))
    assert other["accuracy"]["float"]["top1"] == 0.0
    assert "no better than chance" in other["warnings"][0]
    assert other["accuracy"]["agreement"] == accuracy["agreement"]


def test_a_float_network_that_answers_nan_is_refused(config: BuildConfig, tmp_path: Path) -> None:
    source = ONE.replace("nn.Linear(8, 1))", "nn.Linear(8, 4))")
    network = made(source)
    with torch.no_grad():
        network[4].bias[0] = torch.nan
    keep(tmp_path, source, model_toml(), network)
    with pytest.raises(Exception, match=r"NaN|nan|finite") as caught:
        build(replace(config, method="noise"))
    assert isinstance(caught.value, MeasurementError) or hasattr(caught.value, "exit_status")


def test_folders_numbered_in_sorted_order_warn_first(config: BuildConfig, tmp_path: Path) -> None:
    from PIL import Image

    with np.load(tmp_path / "test.npz") as file:
        for index, (image, label) in enumerate(zip(file["images"], file["labels"], strict=True)):
            folder = tmp_path / "folders" / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index}.png")
    report = build(replace(config, method="noise", evaluation=str(tmp_path / "folders")))
    assert report["warnings"][0].startswith("class folders were numbered in sorted order")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["warnings"] == report["warnings"]


def test_a_join_that_keeps_no_steps_warns(config: BuildConfig, tmp_path: Path) -> None:
    keep(tmp_path, JOIN, model_toml(classes=8, evaluation=False), made(JOIN))
    report = build(replace(config, method="noise"))
    joined = [line for line in report["warnings"] if " joins " in line]
    assert len(joined) == 1
    assert "steps: return them apart" in joined[0]
    assert report["warnings"].index(joined[0]) == 0


def test_check_of_a_fresh_build_judges_what_was_built(config: BuildConfig, tmp_path: Path) -> None:
    build(replace(config, method="noise"))
    gates = {gate.name: gate for gate in check(tmp_path / "out", max_drop=100.0).gates}
    assert all(gates[name].held for name in ("report", "artifact", "exactness", "max-drop"))
    assert not gates["min-images"].held
