"""A residual network without any normalisation, after Fixup (Zhang, Dauphin and Ma, 2019, arXiv:1901.09321).

Plain convolutions with biases, ReLU and additions are all there is when the network runs. While it trains, every
residual branch carries a learned scalar multiplier; it multiplies the branch's last weights and is merged into them
when training ends, so nothing of it is left to capture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

_STEM = 24
# output channels, blocks; every stage halves height and width
_STAGES = ((40, 2), (64, 2), (96, 2))


class Scaled(nn.Module):
    """weight -> scalar * weight."""

    def __init__(self) -> None:
        super().__init__()
        self.scalar = nn.Parameter(torch.ones(()))

    def forward(self, weight: Tensor) -> Tensor:
        return self.scalar * weight


class Block(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a strided 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        return F.relu(y + self.shortcut(x))


class SignsFixup(nn.Module):
    """Input ``(N, 3, 64, 64)`` in 0..1, logits ``(N, classes)``."""

    def __init__(self, num_classes: int = 40) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, 1)
        blocks: list[nn.Module] = []
        channels = _STEM
        for outputs, count in _STAGES:
            for index in range(count):
                blocks.append(Block(channels, outputs, 2 if index == 0 else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def signs_fixup(num_classes: int = 40) -> SignsFixup:
    return SignsFixup(num_classes)


def start_training(network: SignsFixup) -> None:
    """Fixup's initialisation: branches begin as zero, their first layers shrink with depth, scalars are attached."""
    depth = len(network.blocks)
    nn.init.kaiming_normal_(network.stem.weight, nonlinearity="relu")
    for block in network.blocks:
        nn.init.kaiming_normal_(block.conv1.weight, nonlinearity="relu")
        with torch.no_grad():
            block.conv1.weight.mul_(1 / math.sqrt(depth))  # L^(-1/(2m-2)) for m = 2 layers in a branch
        nn.init.zeros_(block.conv2.weight)
        parametrize.register_parametrization(block.conv2, "weight", Scaled())
        if isinstance(block.shortcut, nn.Conv2d):
            nn.init.kaiming_normal_(block.shortcut.weight, nonlinearity="linear")
    nn.init.zeros_(network.classifier.weight)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.zeros_(module.bias)


def end_training(network: SignsFixup) -> None:
    """Merge the scalars into the weights."""
    for block in network.blocks:
        parametrize.remove_parametrizations(block.conv2, "weight", leave_parametrized=True)
