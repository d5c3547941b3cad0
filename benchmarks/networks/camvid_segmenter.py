"""Street-scene segmentation: a MobileNetV2 with plain ReLU, and a head that merges three resolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = (16, *(24,) * 2, *(32,) * 3, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)
_STRIDED = (1, 3, 10, 13)


def _unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, relu: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.out = nn.Sequential(
            _unit(inputs, hidden, 1),
            _unit(hidden, hidden, 3, stride, hidden),
            _unit(hidden, outputs, 1, relu=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.out(x)
        return x + y if self.residual else y


class Head(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.p32 = _unit(320, 96, 1)
        self.p16 = _unit(192, 96, 3)
        self.p8 = _unit(160, 96, 3)
        self.cls = nn.Conv2d(96, num_classes, 1)

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> Tensor:
        y = self._double(self.p32(x32))
        y = self._double(self.p16(torch.cat([y, x16], 1)))
        return self.cls(self.p8(torch.cat([y, x8], 1)))

    @staticmethod
    def _double(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class CamvidSegmenter(nn.Module):
    """Input ``(N, 3, 352, 480)``, logits ``(N, classes, 44, 60)``: upsampling to full resolution is the caller's."""

    def __init__(self, num_classes: int = 11) -> None:
        super().__init__()
        self.stem = _unit(3, 32, 3, 2)
        blocks, channels = [], 32
        for index, outputs in enumerate(_CHANNELS):
            blocks.append(Block(channels, outputs, 2 if index in _STRIDED else 1, 6 if index else 1))
            channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = Head(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (9, 12):
                taps.append(x)
        return self.head(*taps, x)


def camvid_segmenter(num_classes: int = 11) -> CamvidSegmenter:
    return CamvidSegmenter(num_classes)
