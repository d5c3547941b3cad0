"""A small network with statistics of its own, labelled images, and the settings of a quick build of it."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeq.config.build import BuildConfig
from tests.tinymodel import keep, made, model_toml

NETWORK = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU6()
    def forward(self, x):
        return x + self.norm2(self.pointwise(self.relu(self.norm(self.depthwise(x)))))

def tiny(norm=True):
    first = [nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=not norm)] + ([nn.BatchNorm2d(8)] if norm else [])
    body = [Block(8)] if norm else [nn.Conv2d(8, 8, 3, padding=1)]
    return nn.Sequential(*first, nn.ReLU(), *body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


@cache
def labelled() -> tuple[torch.nn.Module, npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The network, whose batch norms remember these images, and its own answers as their labels."""
    network = made(NETWORK)
    network.train()
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    inputs = torch.from_numpy((images / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        for _ in range(20):
            network(inputs)
        return network.eval(), images, network(inputs).argmax(1).numpy()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildConfig:
    monkeypatch.chdir(tmp_path)
    network, images, labels = labelled()
    keep(tmp_path, NETWORK, model_toml(), network)
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    return BuildConfig(
        model="model.toml", method="noise", images=8, effort="fast", cache=tmp_path / "cache", output=tmp_path / "out"
    )
