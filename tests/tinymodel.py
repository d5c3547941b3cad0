"""A network as a user keeps one: network.py, model.toml, weights, and labelled pictures to measure it on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeq.progress import Silent
from edgeq.synth.base import RECIPES, SYNTHESIZERS

__all__ = ["Spy", "keep", "made", "model_toml", "use_settings"]


def model_toml(
    *,
    channels: int = 3,
    side: int = 16,
    mean: float | list[float] = 0.5,
    std: float | list[float] = 0.25,
    classes: int = 4,
    network: str = "",
    picture: str = "",
    output: str = "",
    evaluation: bool = True,
) -> str:
    """The text of a classifier's model.toml; `network`, `picture` and `output` are more lines of those tables."""
    means, stds = (v if isinstance(v, list) else [v] * channels for v in (mean, std))
    tables = {
        "network": ['factory = "network.py:tiny"', 'weights = "tiny.safetensors"', network],
        "input": [f"shape = [{channels}, {side}, {side}]", f"mean = {means}", f"std = {stds}", picture],
        "output": ['task = "classification"', f"classes = {classes}", output],
    }
    if evaluation:
        tables["evaluation"] = ['images = "test.npz"']
    text = "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines if line) for name, lines in tables.items())
    return f'name = "tiny"\n{text}'


def made(source: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """What the function `tiny` of `source` makes, its weights drawn with `seed`."""
    names: dict[str, Any] = {}
    exec(source, names)  # noqa: S102
    torch.manual_seed(seed)
    network: nn.Module = names["tiny"](**arguments)
    return network


def keep(folder: Path, source: str, toml: str, network: nn.Module) -> None:
    """Write network.py, model.toml and the network's weights into `folder`."""
    (folder / "network.py").write_text(source)
    (folder / "model.toml").write_text(toml)
    save_file(network.state_dict(), folder / "tiny.safetensors")


class Spy(Silent):
    """Progress that remembers which stages were found done."""

    def __init__(self) -> None:
        self.cached: dict[str, bool] = {}

    def done(self, name: str, seconds: float, cached: bool) -> None:
        self.cached[name] = cached


def use_settings(monkeypatch: pytest.MonkeyPatch, method: str, settings: Any) -> None:
    """Let every effort of a synthesis method stand for these settings, for the length of a test."""
    list(SYNTHESIZERS)
    monkeypatch.setitem(RECIPES, method, replace(RECIPES[method], settings=lambda effort: settings))
