"""A generator's file: what was written comes back, and what a stranger wrote ends in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from edgeq.errors import ArtifactError
from edgeq.synth.checkpoint import keep, read_images, read_notes
from edgeq.synth.generatorfile import Trained, generator_bytes, load_generator
from edgeq.synth.generators import Generator

FACTS: dict[str, Any] = {
    "shape": [3, 8, 8],
    "latent": 4,
    "width": 8,
    "classes": 2,
    "low": [-1.0, -1.0, -1.0],
    "high": [1.0, 1.0, 1.0],
}


def trained() -> Trained:
    torch.manual_seed(0)
    low, high = torch.tensor(FACTS["low"]), torch.tensor(FACTS["high"])
    return Trained(Generator((3, 8, 8), latent=4, width=8, classes=2).eval(), low, high)


def test_a_generator_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "g.safetensors").write_bytes(generator_bytes(trained()))
    found, labels = load_generator(tmp_path / "g.safetensors"), torch.tensor([0, 1])
    images = [each.draw(labels, torch.Generator().manual_seed(1)) for each in (trained(), found)]
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", [3, 10**6, 10**6]),
        ("shape", [3, 8]),
        ("latent", 10**12),
        ("width", 10**9),
        ("classes", 10**12),
        ("classes", -1),
        ("low", [0.0]),
        ("high", "x"),
        ("high", 10**400),
        ("shape", [3, -8, 8]),
        ("latent", None),
    ],
)
def test_facts_that_ask_for_more_than_the_tensors_have(tmp_path: Path, name: str, value: object) -> None:
    facts = json.dumps(FACTS | {name: value})
    (tmp_path / "g.safetensors").write_bytes(save(load(generator_bytes(trained())), {"edgeq.generator": facts}))
    with pytest.raises(ArtifactError, match="is not a generator"):
        load_generator(tmp_path / "g.safetensors")


def test_tensors_of_another_type(tmp_path: Path) -> None:
    tensors = load(generator_bytes(trained()))
    tensors["last.bias"] = tensors["last.bias"].to(torch.int8)
    (tmp_path / "g.safetensors").write_bytes(save(tensors, {"edgeq.generator": json.dumps(FACTS)}))
    with pytest.raises(ArtifactError, match=r"last\.bias is torch.int8"):
        load_generator(tmp_path / "g.safetensors")


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"\x80\x04N.", b"PK\3\4"])
def test_a_damaged_batch_is_one_that_never_finished(tmp_path: Path, damage: bytes) -> None:
    images = np.zeros((2, 3, 4, 4), np.float32)
    keep(tmp_path, 0, images, {"wrong": 0.5})
    whole = read_images(tmp_path, 0)
    assert whole is not None
    assert np.array_equal(whole, images)
    assert read_notes(tmp_path, 0) == {"wrong": 0.5}
    (tmp_path / "batch-0000.npy").write_bytes(damage)
    (tmp_path / "batch-0000.json").write_bytes(damage)
    assert read_images(tmp_path, 0) is None
    assert read_notes(tmp_path, 0) == {}
    np.save(tmp_path / "batch-0000.npy", np.full((2, 3, 4, 4), np.nan, np.float32))
    assert read_images(tmp_path, 0) is None
