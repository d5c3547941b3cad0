"""Small builds of every task, and the programs that `edgeq use` prints for them, loaded as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import edgeq
from edgeq.config.targets import load_target
from edgeq.formats.base import format_of
from edgeq.model.tasks import Detection, Regression, Segmentation
from edgeq.report.programs import program
from tests.model import yolo_standin

__all__ = ["TASKS", "answers", "built", "loaded", "pictures"]

PIXELS: Mapping[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}
TASKS = (
    "classification",
    "binary",
    "grey",
    "segmentation",
    "anchors",
    "detect",
    "segment",
    "pose",
    "obb",
    "regression",
    "embedding",
    "series",
    "raw",
    "four",
)


class Heads(nn.Module):
    """Rows of logits and deltas, as SSD has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.logits, self.deltas = nn.Conv2d(8, 2 * 3, 1), nn.Conv2d(8, 2 * 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        logits, deltas = (y.permute(0, 2, 3, 1) for y in (self.logits(x) * 3, self.deltas(x)))
        return logits.reshape(x.shape[0], -1, 3), deltas.reshape(x.shape[0], -1, 4)


class Maps(nn.Module):
    """A map and a row: real values of two shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 2, 3, 4, 1), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(x)
        return x, self.last(x.flatten(1))


def classifier(outputs: int, channels: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs)
    )


def _network(task: str) -> tuple[nn.Module, tuple[int, ...], dict[str, Any]]:
    """A random network of a task, its input shape, and what `edgeq.trace` hears of it."""
    torch.manual_seed(1)
    wide = (3, 8, 12)  # so that a layout mistaken for another shows
    labels = ("cat", 'a "dog"\\', "b$ird", "Käfer", "%s{}", "x")
    if task == "segmentation":
        net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))
        return net, wide, {"task": Segmentation(("ground", "left", "right")), **PIXELS}
    if task == "anchors":
        return Heads(), wide, {"task": Detection(("one", "two"), ((4, 6),), ((3.0, 5.0),), score=0.3), **PIXELS}
    if task in ("detect", "segment", "pose", "obb"):
        head = getattr(yolo_standin, {"obb": "OBB"}.get(task, task.capitalize()))
        return yolo_standin.DetectionModel(head()), (3, 16, 24), {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    if task == "regression":
        return Maps(), wide, {"task": Regression(tuple("abcdefghijklmn"), "px"), **PIXELS}
    if task == "embedding":
        return classifier(6), wide, {"task": "embedding", **PIXELS}
    if task == "series":
        body = (nn.Conv1d(5, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(2))
        net = nn.Sequential(*body, nn.Flatten(), nn.Linear(16, 6))
        return net, (5, 20), {"classes": 6, "labels": labels}
    if task == "binary":
        return classifier(1), wide, {"classes": 1, "labels": ("no", "yes"), "task": "classification", **PIXELS}
    if task in ("grey", "four"):
        channels = {"grey": 1, "four": 4}[task]
        return classifier(6, channels), (channels, 8, 12), {"mean": (0.5,), "std": (0.25,), "classes": 6}
    return classifier(6), wide, {"classes": 6, "labels": labels, **PIXELS}


def built(task: str, target: str, folder: Path, **options: Any) -> tuple[edgeq.Model, edgeq.Report]:
    net, shape, about = _network(task)
    model = edgeq.trace(net, shape, name="tiny", **about)
    options = {"raw_pixels": "yes"} | options if task == "raw" else options
    report = edgeq.build(
        model, target=target, method="noise", images=4, output=folder / "out", cache=folder / "cache", **options
    )
    return model, report


def loaded(report: edgeq.Report, runtime: str | None = None) -> ModuleType:
    """The Python program of a build, beside the build's file."""
    made = program(report, "python", runtime)
    path = report.folder / made.file
    path.write_text(made.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"use_{abs(hash(str(path)))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def pictures(model: edgeq.Model, count: int = 3) -> npt.NDArray[np.uint8]:
    """Random pictures ``(N, H, W, C)`` at the input's size."""
    channels, height, width = model.spec.input_shape
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def answers(model: edgeq.Model, report: edgeq.Report, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """What the build itself answers to pictures: as it measures accuracy."""
    session = format_of(load_target(report["target"]), 8).open(report.file, 1)
    spec = model.spec
    if "raw_pixels" in report:
        raw = report["raw_pixels"]
        spec = type(spec)("raw", spec.input_shape, tuple(raw["mean"]), tuple(raw["std"]))
    return session.run(spec.normalise(pixels))
