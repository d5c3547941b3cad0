"""Diagnosing a build: planted faults are found, and what is advised helps."""

from __future__ import annotations

import dataclasses
import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.model.pycode import import_callable
from edgeq.pipeline import diagnose as diagnosing
from edgeq.pipeline import remedies
from edgeq.pipeline.build import build
from edgeq.pipeline.diagnose import diagnose
from edgeq.pipeline.prepare import load_configured, open_job, prepare
from edgeq.pipeline.remedies import simulate
from edgeq.quant import layerwise
from tests.tinymodel import keep, made, model_toml

OUTLIER = """
from torch import nn

def tiny():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.Hardswish(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out images of noise, which take no time to make."""
    monkeypatch.setattr(diagnosing, "choose_method", lambda *_: ("noise", ""))
    monkeypatch.setattr(diagnosing, "HELD_OUT", 8)


def with_outlier(folder: Path) -> BuildConfig:
    """A network in which channel 5 of the first layer reaches far beyond the others."""
    network = made(OUTLIER)
    with torch.no_grad():
        network[0].weight[5] *= 400
        network[2].weight[5] /= 400
    keep(folder, OUTLIER, model_toml(evaluation=False), network)
    return BuildConfig(model=str(folder / "model.toml"), method="noise", images=8, effort="fast", cache=folder / "c")


def test_an_outlier_channel_is_named_and_its_remedy_helps(tmp_path: Path) -> None:
    found = diagnose(with_outlier(tmp_path))
    assert not found["sound"]
    (cause, *_) = found["causes"]
    assert cause["kind"] == "outlier channels"
    assert "channel 5 reaches" in cause["text"]
    row = next(row for row in found["layers"] if row["name"] == cause["where"])
    assert row["outliers"] == (5,)
    (remedy, *_) = found["remedies"]
    assert "--layer-bits 0=w8a16" in remedy["command"]
    assert remedy["answers_db"] > found["answers_db"] + 8
    assert remedy["time"].startswith("slower")


def test_a_target_without_16_bits_is_offered_none(tmp_path: Path) -> None:
    found = diagnose(dataclasses.replace(with_outlier(tmp_path), targets=("onnx-arm",)))
    assert found["causes"]
    assert found["remedies"] == []


@pytest.mark.parametrize(
    ("bits", "more"),
    [("w2a8", {"w4a8", "w8a8"}), ("w4a8", {"w8a8"}), ("w8a2", {"w8a8"}), ("w2a2", {"w4a2", "w8a2", "w2a8", "w8a8"})],
)
def test_few_bits_are_answered_with_more(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch, bits: str, more: set[str]
) -> None:
    tried: list[BuildConfig] = []
    monkeypatch.setattr(diagnosing, "try_remedies", lambda _, found, *__: tried.extend(new for _, new in found) or [])
    assert not diagnose(dataclasses.replace(config, bits=bits, all_layers=True))["sound"]
    assert {new.bits for new in tried if not new.layer_bits} - {bits} == more


def test_the_same_diagnosis_twice(config: BuildConfig) -> None:
    assert json.dumps(diagnose(config)) == json.dumps(diagnose(config))


@cache
def pictures(first: int, count: int, split: str) -> CalibrationSet:
    """Pictures as the shipped classifiers take them; no evaluation image is in the split ``train``."""
    render = import_callable("models/signs/render.py:render_image")
    pixels = np.stack([render(place, seed=0, split=split).image for place in range(first, first + count)])
    inputs = np.ascontiguousarray((pixels / np.float32(255)).transpose(0, 3, 1, 2))
    return CalibrationSet(inputs, np.full(count, -1, np.int64), "rendered")


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration and held-out images of the renderer, and weights rounded to the nearest integer: all quick."""
    monkeypatch.setattr(layerwise, "COMPENSATED", 0)
    monkeypatch.setattr(diagnosing, "synthesize", lambda *_, **__: (None, pictures(0, 4, "train")))
    monkeypatch.setattr(diagnosing, "held_out_images", lambda *_: pictures(4, 4, "train"))
    monkeypatch.setattr(remedies, "TAKEN", (0.5,))


@pytest.mark.usefixtures("rendered")
def test_a_sound_network_raises_no_alarm() -> None:
    found = diagnose(BuildConfig(model="signs-mobilenetv2"))
    assert found["sound"]
    assert found["causes"] == []
    assert found["tried"] == 0


@pytest.mark.usefixtures("rendered")
def test_advice_for_few_bits_helps_on_images_it_never_saw() -> None:
    config = BuildConfig(model="signs-mobilenetv2", bits="w2a8")
    loaded = load_configured(config)
    found = diagnose(config, loaded=loaded)
    assert {cause["kind"] for cause in found["causes"]} == {"few weight bits"}

    def kept(settings: BuildConfig) -> float:
        job = prepare(open_job(settings, loaded))
        return simulate(job, pictures(0, 4, "train"), pictures(0, 40, "test").inputs)[1].effect.same or 0.0

    words = found["remedies"][0]["command"].split()
    bits = words[words.index("--bits") + 1] if "--bits" in words else BuildConfig().bits
    layers = tuple(word for flag, word in itertools.pairwise(words) if flag == "--layer-bits")
    assert kept(dataclasses.replace(config, bits=bits, layer_bits=layers)) > kept(config)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["diagnose", *arguments], prog_name="edgeq")


def test_the_command_prints_causes_and_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgeq.toml").touch()
    with_outlier(tmp_path)
    result = run("model.toml", "--method", "noise", "--images", "8")
    assert result.exit_code == 0, result.stderr
    for words in ("outlier channels", "--layer-bits 0=w8a16", "slower", "bytes", "held-out synthetic images"):
        assert words in result.stdout
    as_json = run("model.toml", "--method", "noise", "--images", "8", "--json", "-q")
    assert json.loads(as_json.stdout)["schema"] == 1
    assert as_json.stderr == ""


def test_the_report_of_a_build_gets_its_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgeq.toml").touch()
    config = dataclasses.replace(with_outlier(tmp_path), model="model.toml", output=tmp_path / "out")
    build(config)
    refused = run("out")
    assert refused.exit_code == 2
    assert "edgeq diagnose MODEL --locked out" in refused.stderr
    result = run("model.toml", "--locked", "out", "--json", "-q")
    assert result.exit_code == 0, result.stderr
    kept = json.loads((tmp_path / "out" / "report.json").read_text())["diagnosis"]
    assert kept["causes"][0]["kind"] == "outlier channels"
    assert kept["answers_db"] == pytest.approx(json.loads(result.stdout)["answers_db"])
    assert "--layer-bits 0=w8a16" in (tmp_path / "out" / "report.html").read_text()
    assert CliRunner().invoke(cli, ["check", "out", "--max-bytes", "1M"], prog_name="edgeq").exit_code == 0


def test_wrong_input_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edgeq.toml").touch()
    (tmp_path / "edgeq.lock").write_text("{")
    for arguments, status in ((("nothing",), 2), ((".",), 2), (("--target", "a", "--target", "b"), 2)):
        result = run(*arguments)
        assert result.exit_code == status
        assert result.stderr.count("\n") <= 2
        assert "Traceback" not in result.output
