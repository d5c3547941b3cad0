"""A detector of the YOLO family for 96x96 images, at nano size: cross-stage blocks, SiLU, a path up and one down.

The shape is that of YOLOv8 (Jocher, Chaurasia and Qiu 2023) with thinner layers: blocks that keep every intermediate
map (C2f), pooling at the end of the body (SPPF), a pyramid that goes up and down again (Liu et al. 2018, PANet), and
heads without anchors, one for boxes and one for classes on each of three maps. It ends at the raw heads, each an output
of its own; `edgeq.decode_grid` decodes them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["REG_MAX", "STRIDES", "ScenesYolo", "scenes_yolo"]

STRIDES = (8, 16, 32)
REG_MAX = 8
"""Channels for each side of a box: how likely its distance from the cell's centre is 0, 1, to 7 cells."""

_STEM = 16
_CHANNELS = (24, 48, 80, 112)
"""Of the maps at 1/4, 1/8, 1/16 and 1/32 of the image."""
_HEAD = 32


def _unit(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(inplace=True),
    )


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, beside the identity if `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.first, self.second = _unit(channels, channels, 3), _unit(channels, channels, 3)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return x + y if self.residual else y


class Stage(nn.Module):
    """Two halves of a 1x1 convolution, and what each of `count` bottlenecks makes of the second, joined by another."""

    def __init__(self, inputs: int, outputs: int, count: int = 1, residual: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = _unit(inputs, outputs)
        self.blocks = nn.ModuleList(Bottleneck(half, residual) for _ in range(count))
        self.leave = _unit((2 + count) * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        maps = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return self.leave(torch.cat(maps, 1))


class Pooling(nn.Module):
    """The largest values of neighbourhoods of 5, 9 and 13 cells beside the map itself (He et al. 2014, SPP)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = _unit(channels, channels // 2), _unit(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.enter(x)]
        for _ in range(3):
            maps.append(F.max_pool2d(maps[-1], 5, 1, 2))
        return self.leave(torch.cat(maps, 1))


class Body(nn.Module):
    """Input ``(N, 3, H, W)`` in 0..1; maps at 1/8, 1/16 and 1/32 of its size."""

    def __init__(self) -> None:
        super().__init__()
        c4, c8, c16, c32 = _CHANNELS
        self.stem = nn.Sequential(_unit(3, _STEM, 3, 2), _unit(_STEM, c4, 3, 2), Stage(c4, c4, 1, residual=True))
        self.stage8 = nn.Sequential(_unit(c4, c8, 3, 2), Stage(c8, c8, 1, residual=True))
        self.stage16 = nn.Sequential(_unit(c8, c16, 3, 2), Stage(c16, c16, 1, residual=True))
        self.stage32 = nn.Sequential(_unit(c16, c32, 3, 2), Stage(c32, c32, 1, residual=True), Pooling(c32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x8 = self.stage8(self.stem(x))
        x16 = self.stage16(x8)
        return x8, x16, self.stage32(x16)


class Neck(nn.Module):
    """What the coarse maps know goes up to the finer ones, and what these make of it down again."""

    def __init__(self) -> None:
        super().__init__()
        _, c8, c16, c32 = _CHANNELS
        self.up16, self.up8 = Stage(c32 + c16, c16), Stage(c16 + c8, c8)
        self.reduce8, self.down16 = _unit(c8, c8, 3, 2), Stage(c8 + c16, c16)
        self.reduce16, self.down32 = _unit(c16, c16, 3, 2), Stage(c16 + c32, c32)

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y16 = self.up16(torch.cat([F.interpolate(x32, scale_factor=2.0), x16], 1))
        y8 = self.up8(torch.cat([F.interpolate(y16, scale_factor=2.0), x8], 1))
        z16 = self.down16(torch.cat([self.reduce8(y8), y16], 1))
        return y8, z16, self.down32(torch.cat([self.reduce16(z16), x32], 1))


class ScenesYolo(nn.Module):
    """Three maps of box distances ``(N, 4 * REG_MAX, h, w)``, then three of class scores ``(N, classes, h, w)``.

    The input is ``(N, 3, H, W)`` in 0..1, sides multiples of 32. Scores are before the sigmoid.
    """

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.body, self.neck = Body(), Neck()
        self.boxes = nn.ModuleList(self._head(channels, 4 * REG_MAX) for channels in _CHANNELS[1:])
        self.scores = nn.ModuleList(self._head(channels, num_classes) for channels in _CHANNELS[1:])
        for head in self.scores:
            nn.init.constant_(head[-1].bias, -math.log(99))  # one cell in a hundred holds an object

    @staticmethod
    def _head(channels: int, values: int) -> nn.Sequential:
        return nn.Sequential(_unit(channels, _HEAD, 3), _unit(_HEAD, _HEAD, 3), nn.Conv2d(_HEAD, values, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.neck(*self.body(x))
        boxes = [head(each) for head, each in zip(self.boxes, maps, strict=True)]
        scores = [head(each) for head, each in zip(self.scores, maps, strict=True)]
        return (*boxes, *scores)


def scenes_yolo(num_classes: int = 5) -> ScenesYolo:
    return ScenesYolo(num_classes)
