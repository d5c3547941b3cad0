"""A segmenter and a detector of 96x96 images, on one small MobileNetV2 body. Both end at raw numbers.

Enlarging, decoding and suppression are the caller's (`edgeq.decode`, docs/how-to/detection.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# expansion, output channels, blocks, first stride; a map is tapped after each of them
_STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 40, 3, 2), (4, 64, 3, 2))
_ANCHORS = 2
"""Squares per place of each map; their sizes stand in model.toml."""


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_unit(inputs, inputs, 3, groups=inputs), _unit(inputs, outputs, 1))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; no activation after the projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _unit(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(hidden, hidden, 3, stride, hidden)
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Body(nn.Module):
    """Input ``(N, 3, H, W)`` in 0..1; maps of 16, 24, 40 and 64 channels at 1/2, 1/4, 1/8 and 1/16 of its size."""

    def __init__(self) -> None:
        super().__init__()
        channels = _STAGES[0][1]
        self.stem = _unit(3, channels, 3, stride=2)
        stages = []
        for expansion, outputs, count, stride in _STAGES:
            first = InvertedResidual(channels, outputs, stride, expansion)
            rest = [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            channels = outputs
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Segmenter(nn.Module):
    """Logits ``(N, classes, H / 2, W / 2)``: a U-Net whose way up joins each map of the body (Ronneberger 2015)."""

    def __init__(self, num_classes: int = 6) -> None:
        super().__init__()
        self.body = Body()
        self.deep = _unit(64, 48, 1)
        self.up8 = _separable(48 + 40, 48)
        self.up4 = _separable(48 + 24, 32)
        self.up2 = _separable(32 + 16, 24)
        self.classifier = nn.Conv2d(24, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x2, x4, x8, x16 = self.body(x)
        y = self.up8(torch.cat([_double(self.deep(x16)), x8], 1))
        y = self.up4(torch.cat([_double(y), x4], 1))
        y = self.up2(torch.cat([_double(y), x2], 1))
        return self.classifier(y)


class Detector(nn.Module):
    """Logits ``(N, anchors, classes)``, background first, and deltas ``(N, anchors, 4)``, of maps at 1/8 and 1/16.

    Separable heads on two maps (Sandler et al. 2018, "SSDLite"); the finer one is told what the coarser one sees.
    """

    def __init__(self, num_classes: int = 6) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = Body()
        self.deep = _unit(64, 64, 1)
        self.merge = _separable(64 + 40, 64)
        self.classification = nn.ModuleList(self._head(num_classes) for _ in range(2))
        self.regression = nn.ModuleList(self._head(4) for _ in range(2))

    @staticmethod
    def _head(values: int) -> nn.Sequential:
        return nn.Sequential(_separable(64, 64), nn.Conv2d(64, _ANCHORS * values, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        _, _, x8, x16 = self.body(x)
        x16 = self.deep(x16)
        maps = (self.merge(torch.cat([_double(x16), x8], 1)), x16)
        logits = [self._rows(h(m), self.num_classes) for h, m in zip(self.classification, maps, strict=True)]
        deltas = [self._rows(h(m), 4) for h, m in zip(self.regression, maps, strict=True)]
        return torch.cat(logits, 1), torch.cat(deltas, 1)

    @staticmethod
    def _rows(x: Tensor, values: int) -> Tensor:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, values)


def segmenter(num_classes: int = 6) -> Segmenter:
    return Segmenter(num_classes)


def detector(num_classes: int = 6) -> Detector:
    return Detector(num_classes)
