"""MobileNetV2 1.0 (Sandler et al. 2018, table 2) with batch norm already folded: every convolution has a bias.

Parameter names are torchvision's, less the batch norms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (expansion, output channels, repeats, stride of the first) of each group of blocks
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [_unit(inputs, hidden, 1)]
        self.conv = nn.Sequential(*expand, _unit(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Input ``(N, 3, 224, 224)``, output ``(N, classes)``."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        features: list[nn.Module] = [_unit(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, first_stride in _GROUPS:
            for index in range(repeats):
                features.append(InvertedResidual(channels, outputs, first_stride if index == 0 else 1, expansion))
                channels = outputs
        features.append(_unit(channels, 1280, 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.classifier(torch.flatten(x, 1))


def mobilenet_v2(num_classes: int = 1000) -> MobileNetV2:
    return MobileNetV2(num_classes)
