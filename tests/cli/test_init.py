"""`edgeq init`: the files it writes, what it finds out by itself, and what it never does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from console import one_line, run
from torch import nn

from edgeq.config.build import resolve
from edgeq.model.load import load_model
from edgeq.model.modeltoml import read_model_file

pytestmark = pytest.mark.usefixtures("in_a_folder")

NETS = """
from torch import nn

def fixed():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 12))

def masks():
    return nn.Conv2d(3, 5, 3, padding=1)

def rows():
    return nn.Linear(77, 5)

def broken():
    raise ValueError("not today")
"""


@pytest.fixture(autouse=True)
def _nets(in_a_folder: None) -> None:
    Path("net.py").write_text(NETS)


def test_the_files_are_enough_to_build() -> None:
    result = run("init", "net.py:fixed", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["files"] == ["model.toml", "edgeq.toml"]
    assert facts["known"] == ["net-fixed: input 3 x 28 x 28, 10 classes"]
    assert any(line.startswith("input shape: 3 x 28 x 28 was tried") for line in facts["unsure"])
    assert resolve({}, {}).config.model == "model.toml"
    plan = run("build", "--plan", "--json")
    assert json.loads(plan.stdout)["model"] == "net-fixed", plan.stderr


@pytest.mark.parametrize(
    ("function", "shape", "task"), [("grey", (1, 224, 224), "classification"), ("masks", (3, 224, 224), "regression")]
)
def test_channels_and_task_are_found_out(function: str, shape: tuple[int, ...], task: str) -> None:
    assert run("init", f"net.py:{function}").exit_code == 0
    spec = read_model_file(Path("model.toml")).spec
    assert (spec.input_shape, spec.task) == (shape, task)
    assert load_model("model.toml").spec.task == task


def test_a_network_of_no_usual_size_gets_files_to_fill_in() -> None:
    result = run("init", "net.py:rows")
    assert "took none of the usual sizes" in result.stdout
    assert read_model_file(Path("model.toml")).spec.input_shape == (3, 224, 224)


def test_what_is_given_is_kept_and_weights_beside_are_found() -> None:
    torch.save(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 12)).state_dict(),
        "grey.pth",
    )
    assert run("init", "net.py:grey", "--input-shape", "1,20,20", "-o", "project").exit_code == 0
    file = read_model_file(Path("project/model.toml"))
    assert file.spec.input_shape == (1, 20, 20)
    assert file.weights.resolve() == Path("grey.pth").resolve()
    assert load_model("project/model.toml").spec.classes == 12
    assert run("init", "net.py:fixed", "-o", "other").exit_code == 0  # no file has its name, and grey.pth is not taken
    assert str(read_model_file(Path("other/model.toml")).weights).endswith("random")


def test_no_file_is_replaced_unless_asked() -> None:
    Path("edgeq.toml").write_text("seed = 7\n")
    one_line(run("init", "net.py:grey"), 2, "edgeq.toml would be replaced", "--force", "[E261]")
    assert Path("edgeq.toml").read_text() == "seed = 7\n"
    assert not Path("model.toml").exists()
    assert run("init", "net.py:grey", "--force").exit_code == 0
    assert "seed = 7" not in Path("edgeq.toml").read_text()


def test_models_that_describe_themselves_are_named() -> None:
    assert run("init", "signs-mobilenetv2").exit_code == 0
    assert not Path("model.toml").exists()
    assert resolve({}, {}).config.model == "signs-mobilenetv2"


@pytest.mark.parametrize(
    ("model", "code"),
    [("net.py:gone", "E220"), ("net.py:broken", "E220"), ("gone.py:make", "E220"), ("nope", "E220"), ("", "E220")],
)
def test_what_is_no_network_leaves_no_file(model: str, code: str) -> None:
    one_line(run("init", model), 2, f"[{code}]")
    assert not list(Path().glob("*.toml"))


def test_every_comment_of_a_setting_is_one(tmp_path: Path) -> None:
    run("init", "signs-mobilenetv2")
    text = Path("edgeq.toml").read_text()
    assert "# images = 32  # number of calibration images" in text
    uncommented = text.replace("# images = 32", "images = 32").replace('# bits = "w8a8"', 'bits = "w8a8"')
    Path("edgeq.toml").write_text(uncommented)
    assert resolve({}, {}).origin["images"] == "edgeq.toml"
