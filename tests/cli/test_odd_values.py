"""Values that are almost right, empty or strange: one line that helps, and never a bug."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from console import one_line, run
from torch import nn

import edgeq
from edgeq.config.build import resolve
from edgeq.errors import ConfigError, TaskError
from edgeq.model.load import load_model

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.mark.parametrize("method", ["images:", "images: "])
def test_images_without_a_path_are_refused(method: str) -> None:
    one_line(run("build", "signs-mobilenetv2", "--method", method, "--plan"), 2, "images without a path", "[E230]")


@pytest.mark.parametrize(
    ("typed", "meant"), [("true", "yes"), ("1", "yes"), ("False", "no"), ("0", "no"), ("on", "yes"), ("free", "free")]
)
def test_yes_and_no_are_what_a_switch_takes(typed: str, meant: str) -> None:
    assert resolve({}, {"EDGEQ_RAW_PIXELS": typed}).config.raw_pixels == meant


def test_a_misspelt_yes_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match="yes, free, no"):
        resolve({}, {"EDGEQ_RAW_PIXELS": "sometimes"})


class Two(nn.Module):
    """A network with two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.conv(x)
        return y, y.mean((2, 3))


def test_several_outputs_are_answered_with_the_task() -> None:
    with pytest.raises(TaskError, match="task="):
        edgeq.trace(Two(), (3, 8, 8), classes=4)
    assert edgeq.trace(Two(), (3, 8, 8), task="regression").graph.outputs


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed -1"):
        edgeq.verify("gone", seed=-1)


def test_show_names_what_it_takes() -> None:
    one_line(run("show", "nope"), 2, "unknown model 'nope'", "the folder of a build", "[E220]")


def test_random_weights_are_no_file_wherever_the_model_file_lies() -> None:
    Path("net.py").write_text("from torch import nn\ndef make(): return nn.Conv2d(3, 2, 3)\n")
    assert run("init", "net.py:make", "--input-shape", "3,8,8", "-o", "project").exit_code == 0
    assert load_model("project/model.toml").spec.input_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        (["cache", "--cache", "~nobody-of-this-name/x"], "E200"),
        (["cache", "--config", "a\0b"], "E200"),
        (["inspect", "a\0b"], "E200"),
        (["init", "net.py:"], "E220"),
        (["build", "--seed", "\udcff"], "E200"),
        (["build", "--seed", "nan"], "E200"),
        (["build", "--images", "1e400"], "E200"),
        (["inspect", "."], "E260"),
        (["inspect", ""], "E260"),
        (["verify", "gone"], "E260"),
    ],
    ids=ascii,
)
def test_strange_values_are_no_bug(typed: list[str], code: str) -> None:
    one_line(run(*typed), 2, f"[{code}]")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m edgeq explain | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_images_of_a_file_that_holds_none() -> None:
    np.savez("none.npz", images=np.zeros((0, 8, 8, 3), np.uint8))
    Path("net.py").write_text("from torch import nn\ndef make(): return nn.Conv2d(3, 2, 3)\n")
    words = ("net.py:make", "--input-shape", "3,8,8", "--method", "images:none.npz", "-q")
    one_line(run("build", *words), 2, "none.npz holds no images", "[E230]")
