"""The MLPerf Tiny image networks: ResNet-8 (image classification) and MobileNetV1 0.25 (visual wake words).

Both were trained in Keras, so padding is TensorFlow's SAME (the odd row and column go below and to the right) and batch
norm's eps is 1e-3.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution whose output is ``ceil(size / stride)`` high and wide whatever the kernel."""

    def forward(self, x: Tensor) -> Tensor:
        top, bottom = _same(x.shape[2], self.kernel_size[0], self.stride[0])
        left, right = _same(x.shape[3], self.kernel_size[1], self.stride[1])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Unit(nn.Module):
    """Convolution with bias, then batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Projection(nn.Module):
    """The 1x1 shortcut of a stage's first block: a convolution without batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = SameConv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ResNet8(nn.Module):
    """Input ``(N, 3, 32, 32)`` of raw pixels 0..255, output ``(N, classes)``."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = Unit(3, 16, 3)
        self.b1a, self.b1b = Unit(16, 16, 3), Unit(16, 16, 3)
        self.b2a, self.b2b, self.b2s = Unit(16, 32, 3, 2), Unit(32, 32, 3), Projection(16, 32)
        self.b3a, self.b3b, self.b3s = Unit(32, 64, 3, 2), Unit(64, 64, 3), Projection(32, 64)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.b1b(torch.relu(self.b1a(x))))
        x = torch.relu(self.b2s(x) + self.b2b(torch.relu(self.b2a(x))))
        x = torch.relu(self.b3s(x) + self.b3b(torch.relu(self.b3a(x))))
        return self.fc(torch.flatten(F.avg_pool2d(x, 8), 1))


# (input channels, output channels, stride) of the depthwise-separable pairs
_PAIRS = (
    (8, 16, 1),
    (16, 32, 2),
    (32, 32, 1),
    (32, 64, 2),
    (64, 64, 1),
    (64, 128, 2),
    *((128, 128, 1),) * 5,
    (128, 256, 2),
    (256, 256, 1),
)


class PersonDetect(nn.Module):
    """Input ``(N, 3, 96, 96)`` in 0..1, output ``(N, 2)``: no person, person."""

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        self.stem = Unit(3, 8, 3, 2)
        self.dw = nn.ModuleList(Unit(i, i, 3, stride, groups=i) for i, _, stride in _PAIRS)
        self.pw = nn.ModuleList(Unit(i, o, 1) for i, o, _ in _PAIRS)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for depthwise, pointwise in zip(self.dw, self.pw, strict=True):
            x = torch.relu(pointwise(torch.relu(depthwise(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def resnet8(num_classes: int = 10) -> ResNet8:
    return ResNet8(num_classes)


def person_detect(num_classes: int = 2) -> PersonDetect:
    return PersonDetect(num_classes)
