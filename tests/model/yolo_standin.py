"""A small network with ultralytics' class names and head, so that tests need no such package."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OBB", "Detect", "DetectionModel", "Model", "Pose", "Segment"]


def _named(file: str) -> Any:
    def give(kind: type) -> type:
        kind.__module__ = file
        return kind

    return give


@_named("ultralytics.nn.modules.head")
class Detect(nn.Module):
    """Two levels, distances in `reg_max` bins, decoded as ultralytics does."""

    end2end = False

    def __init__(self, reg_max: int = 4, extra: int = 0) -> None:
        super().__init__()
        self.f, self.i, self.type = [0, 1], 2, "Detect"
        self.nc, self.reg_max, self.extra = 3, reg_max, extra
        self.stride = torch.tensor([4.0, 8.0])
        self.cv2 = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 4 * reg_max, 1)) for _ in range(2))
        self.cv3 = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 3, 1)) for _ in range(2))
        if extra:
            self.cv4 = nn.ModuleList(nn.Sequential(nn.Conv2d(8, extra, 1)) for _ in range(2))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, dict[str, Any]]:
        boxes, scores = (torch.cat([b[n](x).flatten(2) for n, x in enumerate(maps)], 2) for b in (self.cv2, self.cv3))
        centres, strides = [], []
        for x, stride in zip(maps, self.stride.tolist(), strict=True):
            row, column = torch.meshgrid(*(torch.arange(size).type_as(x) + 0.5 for size in x.shape[2:]), indexing="ij")
            centres.append(torch.stack((column, row)).flatten(1))
            strides.append(torch.full((x.shape[2] * x.shape[3],), stride))
        middle, step = torch.cat(centres, 1), torch.cat(strides)
        sides = boxes.view(len(boxes), 4, self.reg_max, -1).softmax(2)
        sides = (sides * torch.arange(self.reg_max).view(1, 1, -1, 1)).sum(2)
        low, high = middle - sides[:, :2], middle + sides[:, 2:]
        out = [torch.cat([low, high], 1) * step, scores.sigmoid()]
        if self.extra:
            out.append(torch.cat([self.cv4[n](x).flatten(2) for n, x in enumerate(maps)], 2))
        return torch.cat(out, 1), {"boxes": boxes, "scores": scores, "feats": maps}


@_named("ultralytics.nn.modules.head")
class Segment(Detect):
    def __init__(self) -> None:
        super().__init__(extra=5)
        self.nm, self.proto = 5, nn.Conv2d(8, 5, 1)

    def forward(self, maps: list[Tensor]) -> Any:
        return super().forward(maps), self.proto(maps[0])


@_named("ultralytics.nn.modules.head")
class Pose(Detect):
    def __init__(self) -> None:
        super().__init__(extra=6)
        self.nk, self.kpt_shape = 6, [2, 3]


@_named("ultralytics.nn.modules.head")
class OBB(Detect):
    def __init__(self) -> None:
        super().__init__(extra=1)
        self.ne = 1


@_named("ultralytics.nn.tasks")
class DetectionModel(nn.Module):
    """Two strided convolutions and a head, run as ultralytics runs its list of layers."""

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.model = nn.Sequential(first, second, head or Detect())
        self.names = {0: "cat", 1: "dog", 2: "bird"}

    def forward(self, x: Tensor) -> Any:
        first = self.model[0](x)
        return self.model[2]([first, self.model[1](first)])


@_named("ultralytics.engine.model")
class Model(nn.Module):
    """What ``YOLO(...)`` gives: its `train` is no network's."""

    def __init__(self) -> None:
        super().__init__()
        self.model = DetectionModel()

    def train(self, mode: bool = True) -> Any:
        raise RuntimeError(f"training starts, {math.pi}")


def detector() -> nn.Module:
    """A detector as its user has it."""
    return DetectionModel()


def whole() -> nn.Module:
    """The same inside ultralytics' own wrapper."""
    return Model()
