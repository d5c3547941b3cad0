"""Wrong models, weights and images through the whole command: one line, the right exit status, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from edgeq.cli import cli
from tests.tinymodel import keep, made, model_toml

pytest.importorskip("edgeq.pipeline.build", reason="edgeq.pipeline.build is not there")

NET = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))

class Sine(nn.Module):
    def forward(self, x):
        return x.erfc()

def odd():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Sine(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""

TOML = model_toml(side=8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path, NET, TOML, made(NET))
    np.savez(tmp_path / "test.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4))
    return tmp_path


def fails(status: int, *parts: str, arguments: tuple[str, ...] = ("model.toml",)) -> None:
    result = CliRunner().invoke(cli, ["build", "--method", "noise", "--images", "4", "--quiet", *arguments])
    assert result.exit_code == status, (result.stderr, result.exception)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("edgeq: ")
    for part in parts:
        assert part in lines[0], lines[0]
    assert not list(Path().glob("build/tiny*"))


def test_missing_weights(folder: Path) -> None:
    (folder / "tiny.safetensors").unlink()
    fails(2, "weights file tiny.safetensors does not exist")


def test_corrupt_weights(folder: Path) -> None:
    (folder / "tiny.safetensors").write_bytes(b"scrambled")
    fails(2, "weights file tiny.safetensors cannot be read")


def test_weights_that_do_not_fit(folder: Path) -> None:
    save_file({"0.weight": torch.zeros(4, 3, 3, 3), "head.bias": torch.zeros(4)}, folder / "tiny.safetensors")
    fails(2, "do not fit the network", "missing 0.bias", "unexpected head.bias")


def test_wrong_input_shape(folder: Path) -> None:
    (folder / "model.toml").write_text(TOML.replace("[3, 8, 8]", "[1, 8, 8]").replace("0.5, 0.5, 0.5", "0.5"))
    fails(2, "std")
    fails(
        2,
        "cannot take an input of shape [4, 8, 8]",
        arguments=("network.py:tiny", "--input-shape", "4,8,8", "--mean", "0,0,0,0", "--std", "1,1,1,1"),
    )


def test_unknown_target(folder: Path) -> None:
    fails(2, "unknown target 'tflite'", arguments=("model.toml", "--target", "tflite"))


def test_unknown_key(folder: Path) -> None:
    (folder / "model.toml").write_text(TOML.replace("mean", "means"))
    fails(2, "unknown key 'means'", "did you mean 'mean'?")


def test_unsupported_op(folder: Path) -> None:
    fails(3, "erfc", arguments=("network.py:odd", "--input-shape", "3,8,8"))


def test_unknown_model_and_method(folder: Path) -> None:
    fails(2, "unknown model 'resnet-99'", arguments=("resnet-99",))
    result = CliRunner().invoke(cli, ["build", "model.toml", "--method", "gznk", "--quiet"])
    assert result.exit_code == 2
    assert "'gznk'" in result.stderr
    assert "did you mean 'gznq'?" in result.stderr


def test_labels_out_of_range(folder: Path) -> None:
    np.savez(folder / "test.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4) + 1)
    fails(2, "labels of test.npz go from 1 to 4", "tiny has 4 classes")


def test_wrong_images_are_found_before_the_network_is_captured(folder: Path) -> None:
    text = (folder / "model.toml").read_text().replace("network.py:tiny", "network.py:odd")
    (folder / "odd.toml").write_text(text)
    np.savez(folder / "test.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4) + 9)
    fails(2, "labels of test.npz", arguments=("odd.toml", "--weights", "random"))


def test_unreadable_images(folder: Path) -> None:
    (folder / "pictures" / "a").mkdir(parents=True)
    (folder / "pictures" / "a" / "broken.png").write_bytes(b"no picture")
    fails(2, "broken.png cannot be read", arguments=("model.toml", "--evaluation", "pictures"))
    fails(2, "images gone do not exist", arguments=("model.toml", "--evaluation", "gone"))
    fails(2, "images gone do not exist", arguments=("model.toml", "--method", "images:gone"))
    fails(2, "images gone do not exist", arguments=("model.toml", "--method", "images:gone", "--plan"))
    fails(2, "images gone do not exist", arguments=("model.toml", "--evaluation", "gone", "--plan"))


def test_a_plan_lists_every_unsupported_op_and_exits_as_the_build_would(folder: Path) -> None:
    text = (folder / "model.toml").read_text().replace("network.py:tiny", "network.py:odd")
    (folder / "odd.toml").write_text(text)
    result = CliRunner().invoke(cli, ["build", "odd.toml", "--weights", "random", "--plan"], prog_name="edgeq")
    assert result.exit_code == 3
    assert "erfc" in result.stdout
    assert "1 unsupported call [E300]\n" in result.stderr
    assert not (folder / "build").exists()


@pytest.mark.parametrize(
    ("method", "why"),
    [
        ("zaq+leaves", "zaq trains the integer network on images and makes none"),
        ("leaves+leaves", "leaves is there twice"),
        ("leaves+", "--method leaves+: nothing stands beside a +"),
    ],
)
def test_methods_that_cannot_be_joined(folder: Path, method: str, why: str) -> None:
    fails(2, why, arguments=("model.toml", "--method", method))


def test_a_gpu_that_is_too_small_is_no_bug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("edgeq.pipeline.build.synthesize", full)
    fails(2, "the GPU has too little memory: CUDA out of memory.", "CUDA_VISIBLE_DEVICES= computes on the processor")
