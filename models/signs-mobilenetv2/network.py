"""A MobileNetV2 for 64x64 images: inverted residuals with depthwise convolutions, ReLU6, linear bottlenecks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# expansion, output channels, blocks, first stride
_STAGES = ((1, 16, 1, 1), (3, 24, 2, 2), (4, 32, 3, 2), (6, 56, 3, 2), (6, 80, 2, 1))
_STEM, _HEAD = 16, 320


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


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


class SignsMobileNetV2(nn.Module):
    """Input ``(N, 3, 64, 64)`` in 0..1, logits ``(N, classes)``."""

    def __init__(self, num_classes: int = 40) -> None:
        super().__init__()
        self.stem = _unit(3, _STEM, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = _STEM
        for expansion, outputs, count, stride in _STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _unit(channels, _HEAD, 1)
        self.classifier = nn.Linear(_HEAD, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def signs_mobilenetv2(num_classes: int = 40) -> SignsMobileNetV2:
    return SignsMobileNetV2(num_classes)
