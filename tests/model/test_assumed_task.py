"""What a network's outputs are taken for where nobody says it, and what says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeq.data.stated import with_stated_task
from edgeq.errors import ConfigError
from edgeq.model.load import load_model, wrap_module
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Embedding, Regression


class Network(nn.Module):
    """Any outputs, made of one row of `values` numbers."""

    def __init__(self, values: int, outputs: Callable[[Tensor], object] = lambda row: row) -> None:
        super().__init__()
        self.outputs = outputs
        self.conv = nn.Conv2d(3, values, 8)

    def forward(self, x: Tensor) -> object:
        return self.outputs(self.conv(x).flatten(1))


def spec_of(network: nn.Module, **given: object) -> ModelSpec:
    return wrap_module(network, "net", (3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, **given).spec  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "task", "classes"),
    [
        (Network(10), "classification", 10),
        (Network(5), "classification", 5),
        (Network(4), "regression", 4),
        (Network(1), "regression", 1),
        (Network(8, lambda row: (row[:, :2], row[:, 2:])), "regression", 0),
        (Network(8, lambda row: row.reshape(1, 2, 2, 2)), "regression", 0),
    ],
)
def test_what_is_assumed_is_said(network: nn.Module, task: str, classes: int) -> None:
    spec = spec_of(network)
    assert (spec.task, spec.classes, spec.assumed) == (task, classes, ("task",))
    other = "classification" if task == "regression" else "regression"
    assert "nobody stated the task" in spec.assumption
    assert f"--task {other}" in spec.assumption


def test_what_states_a_task() -> None:
    assert (spec_of(Network(2), classes=2).task, spec_of(Network(2), labels=["a", "b"]).task) == ("classification",) * 2
    counted = Network(3)
    counted.num_classes = 3  # type: ignore[assignment]
    assert (spec_of(counted).task, spec_of(counted).assumed) == ("classification", ())
    counted.num_classes = 1000  # type: ignore[assignment]  # the head was cut off
    assert spec_of(counted).assumed == ("task",)
    for task in ("regression", "embedding", Regression(("x", "y"), "px"), Embedding()):
        spec = spec_of(Network(2), task=task)
        assert (spec.task, spec.classes) == (task if isinstance(task, str) else type(task).__name__.lower(), 2)
        assert (spec.assumed, spec.assumption) == ((), "")


def test_the_command_line_states_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Conv2d(3, 6, 8), nn.Flatten())\n"
    )
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Conv2d(3, 6, 8), nn.Flatten()).state_dict(), tmp_path / "w.pth")
    (tmp_path / "model.toml").write_text(
        'name = "net"\n[network]\nfactory = "net.py:make"\nweights = "w.pth"\n[input]\nshape = [3, 8, 8]\n'
        'mean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n[output]\ntask = "classification"\nclasses = 6\n'
    )
    assert load_model(f"{tmp_path}/net.py:make", input_shape=(3, 8, 8), task="embedding").spec.task == "embedding"
    spec = load_model(str(tmp_path), task="regression").spec
    assert (spec.task, spec.classes, spec.assumed) == ("regression", 6, ())
    assert load_model(str(tmp_path)).spec.assumption == ""


def test_an_embedding_is_one_row() -> None:
    with pytest.raises(ConfigError, match=r"is no embedding.*--task regression"):
        spec_of(Network(8, lambda row: (row, row)), task="embedding")
    with pytest.raises(ConfigError, match="is no embedding"):
        spec_of(Network(1), task="embedding")


IMAGES = np.zeros((2, 8, 8, 3), np.uint8)


def test_evaluation_images_state_it(tmp_path: Path) -> None:
    spec = spec_of(Network(2))

    def task(path: Path) -> str:
        found = with_stated_task(spec, str(path))
        assert found.assumed == (() if found is not spec else ("task",))
        return found.task

    np.savez(tmp_path / "labels.npz", images=IMAGES, labels=[0, 1])
    np.savez(tmp_path / "values.npz", images=IMAGES, values=np.zeros((2, 2)))
    np.savez(tmp_path / "pairs.npz", images=IMAGES, pairs=[[0, 1]], same=[True])
    np.savez(tmp_path / "bare.npz", images=IMAGES)
    assert [task(tmp_path / f"{name}.npz") for name in ("labels", "values", "pairs")] == [
        "classification",
        "regression",
        "embedding",
    ]
    assert with_stated_task(spec, str(tmp_path / "bare.npz")) is spec
    for head, expected in (("filename,label", "classification"), ("first,second,same", "embedding")):
        (tmp_path / "t.csv").write_text(head + "\n")
        assert task(tmp_path / "t.csv") == expected
    (tmp_path / "folders" / "cat").mkdir(parents=True)
    (tmp_path / "folders" / "cat" / "1.png").touch()
    assert task(tmp_path / "folders") == "classification"
    assert with_stated_task(spec, np.array([0, 1])).task == "classification"
    stated = spec_of(Network(2), task="regression")
    assert with_stated_task(stated, str(tmp_path / "labels.npz")) is stated  # what is stated stays
