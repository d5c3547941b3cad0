"""A regressor and an embedding through the whole line, the gate and `edgeq eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.report.schema import validate

NETWORK = """
import torch
from torch import nn
def c(i, o): return [nn.Conv2d(i, o, 3, 2, 1), nn.ReLU()]
def make():
    torch.manual_seed(0)
    return nn.Sequential(*c(3, 8), *c(8, 8), nn.Flatten(), nn.Linear(8 * 9, 3))
"""
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 12, 12, 3), np.uint8)
BUILD = ("--input-shape", "3,12,12", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25", "--method", "leaves")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def run(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(cli, [*words, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def answers() -> np.ndarray:
    names: dict[str, Any] = {}
    exec(NETWORK, names)  # noqa: S102
    with torch.no_grad():
        inputs = torch.from_numpy((IMAGES / np.float32(255) - 0.5) / 0.25).permute(0, 3, 1, 2).float()
        return np.asarray(names["make"]()(inputs))


def test_a_regressor(folder: Path) -> None:
    np.savez("t.npz", images=IMAGES, values=answers() + 1)
    report = run("build", "net.py:make", *BUILD, "--evaluation", "t.npz", "-o", "out")
    assert validate(report) == []
    assert (report["task"], report["accuracy"], report["regression"]["n"]) == ("regression", None, 24)
    assert not any("nobody stated the task" in line for line in report["warnings"])  # the values state it
    for row in report["regression"]["outputs"]:
        assert row["float"]["mae"] == pytest.approx(1, abs=1e-5)
        assert abs(row["integer"]["mae"] - 1) <= row["mean_difference"] + 1e-5
        assert row["snr_db"] > 8
    run("check", "out", "--min-snr-db", "8", "--min-images", "24")
    run("check", "out", "--max-error", "1e-9", "--min-images", "24", code=1)
    told = run("eval", "out", "--data", "t.npz")
    assert told["metric"] == "regression"
    assert told["outputs"]["equal"] == 1.0
    here = [row["mae"] for row in told["host_accuracy"]["outputs"]]
    assert here == pytest.approx([row["integer"]["mae"] for row in report["regression"]["outputs"]], rel=1e-4)
    page = (folder / "out" / "report.html").read_text()
    assert "Signal to noise" in page


def test_an_embedding(folder: Path) -> None:
    pairs = [[i, i + 1] for i in range(20)]
    np.savez("p.npz", images=IMAGES, pairs=pairs, same=np.arange(20) % 2 == 0)
    report = run("build", "net.py:make", *BUILD, "--task", "embedding", "--evaluation", "p.npz", "-o", "out")
    assert report["embedding"]["cosine_mean"] > 0.99
    assert (report["accuracy"]["metric"], report["accuracy"]["n"]) == ("verification", 20)
    assert report["embedding"]["folds"] == 10
    run("check", "out", "--min-cosine", "0.9", "--max-drop", "60", "--min-images", "20")
    assert run("eval", "out", "--data", "p.npz")["agreement"] == 1.0


def test_an_assumption_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = run("build", "net.py:make", *BUILD, "-o", "out")
    assert report["task"] == "regression"
    assert any("nobody stated the task" in line and "--task classification" in line for line in report["warnings"])
    seen = CliRunner().invoke(cli, ["build", "net.py:make", *BUILD, "-o", "out"])
    assert "nobody stated the task" in seen.stderr
    np.savez("l.npz", images=IMAGES, labels=answers().argmax(1))
    report = run("build", "net.py:make", *BUILD, "--evaluation", "l.npz", "-o", "out")
    assert (report["task"], report["accuracy"]["float"]["top1"]) == ("classification", 100.0)


def test_a_float_network_needs_no_values(folder: Path) -> None:
    np.savez("bare.npz", images=IMAGES)
    report = run("build", "net.py:make", *BUILD, "--task", "regression", "--evaluation", "bare.npz", "-o", "out")
    assert "float" not in report["regression"]["outputs"][0]
    assert report["regression"]["outputs"][0]["snr_db"] > 8
