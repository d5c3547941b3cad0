"""Generators: latents to images, for any input size, in units of the pixel range (-1 is pixel 0, 1 is pixel 255).

The layers are those of ZAQ's released code and of GDFQ's public generator: a linear to a quarter of the side, twice
(nearest neighbour times two, 3x3 convolution, batch norm, leaky ReLU 0.2), a 3x3 convolution to the image, tanh. Theirs
ends in a batch norm without affine, whose images leave the pixel range; here tanh ends in it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConditionalNorm", "Generator"]

LARGEST_START = 14
"""Pixels: a larger map is grown from half its size, so that a 224-pixel image starts at 14 and not at 56."""


class ConditionalNorm(nn.Module):
    """Batch norm by batch statistics, then gain and bias looked up by class; plain batch norm without classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=classes == 0)
        self.gain = nn.Embedding(classes, channels) if classes else None
        self.bias = nn.Embedding(classes, channels) if classes else None
        if self.gain is not None and self.bias is not None:
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        normed: Tensor = self.norm(x)
        if self.gain is None or self.bias is None:
            return normed
        scaled: Tensor = self.gain(labels)[:, :, None, None] * normed + self.bias(labels)[:, :, None, None]
        return scaled


class Generator(nn.Module):
    """Latents ``(N, latent)`` and, with `classes` > 0, labels ``(N,)`` to images ``(N, C, H, W)`` in -1..1."""

    def __init__(self, shape: tuple[int, int, int], *, latent: int = 256, width: int = 64, classes: int = 0) -> None:
        super().__init__()
        self.shape, self.latent, self.width, self.classes = shape, latent, width, classes
        channels, height, size = shape
        doublings = 2
        while max(height, size) >> doublings > LARGEST_START:
            doublings += 1
        self.start = (max(1, -(-height >> doublings)), max(1, -(-size >> doublings)))
        self.linear = nn.Linear(latent, width * self.start[0] * self.start[1])
        self.first = ConditionalNorm(width, classes)
        widths = [width] * (doublings - 1) + [max(8, width // 2)]
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        before = width
        for channels_out in widths:
            self.convolutions.append(nn.Conv2d(before, channels_out, 3, padding=1))
            self.norms.append(ConditionalNorm(channels_out, classes))
            before = channels_out
        self.last = nn.Conv2d(before, channels, 3, padding=1)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Normal latents ``(count, latent)``."""
        return torch.randn((count, self.latent), generator=random)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.linear(latents).view(len(latents), self.width, *self.start).to(memory_format=torch.channels_last)
        x = self.first(x, labels)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(norm(convolution(x), labels), 0.2)
        if x.shape[2:] != self.shape[1:]:
            x = F.interpolate(x, self.shape[1:], mode="bilinear", align_corners=False)
        return torch.tanh(self.last(x))
