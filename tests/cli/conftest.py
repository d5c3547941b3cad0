"""Where commands are typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.tinymodel import keep, made, model_toml

NORMED = """
from torch import nn

def tiny(norm=True, channels=3):
    first = [nn.Conv2d(channels, 8, 3, stride=2, padding=1)] + ([nn.BatchNorm2d(8)] if norm else [])
    return nn.Sequential(*first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
"""


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty repository, above which no settings are looked for, and none in the environment."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("EDGEQ_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small network whose batch norm remembers pictures of noise."""
    monkeypatch.chdir(tmp_path)
    network = made(NORMED)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, 16, 16))
    keep(tmp_path, NORMED, model_toml(picture="resize = 20\ncrop = 16", evaluation=False), network)
    return tmp_path
