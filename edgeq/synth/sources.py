"""Parametrizations of images under optimisation: a pyramid of pixels, or latents of a small generator.

Both use units of the pixel range (-1 is pixel 0 and 1 is pixel 255, in every channel), so that a rate or a penalty
means the same for every normalisation.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Generator", "Latents", "Pixels", "Source"]


class Source(Protocol):
    """Interface of a parametrization: the images, and the parameters that an optimiser moves."""

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Adam's parameter groups; the schedule scales each group's rate."""

    def images(self) -> Tensor:
        """The images now, ``(N, C, H, W)`` in -1..1."""


class Pixels:
    """Images as sums of a pyramid: each level is half the size of the one before, enlarged smoothly when added.

    A step of Adam moves every parameter about as far, so with pixels alone most of an image's movement is grain; with a
    pyramid coarse shapes move as fast as grain (Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017, on
    the preconditioning by frequency). `chroma` scales the two colour-difference axes of an RGB image in the same way:
    in pictures of anything, light varies more than colour. The sum goes through tanh, which ends in the pixel range.
    """

    def __init__(self, levels: list[Tensor], size: tuple[int, int], chroma: float) -> None:
        self._levels = [level.detach().clone().requires_grad_() for level in levels]
        self._size, self._chroma = size, chroma
        colours = colour_axes(levels[0].shape[1], chroma)
        self._colours = None if colours is None else colours.to(levels[0].device)

    @classmethod
    def noise(
        cls,
        shape: tuple[int, int, int, int],
        random: torch.Generator,
        *,
        depth: int,
        chroma: float,
        device: torch.device | None = None,
    ) -> Pixels:
        """Normal noise of about equal strength at every scale, as photographs have it."""
        n, c, h, w = shape
        sizes = [(max(1, h >> i), max(1, w >> i)) for i in range(depth)]
        sizes = [size for i, size in enumerate(sizes) if i == 0 or min(size) >= 2]
        scale = 0.5 / math.sqrt(len(sizes))
        levels = [(scale * torch.randn((n, c, *size), generator=random)).to(device) for size in sizes]
        return cls(levels, (h, w), chroma)

    def enlarged(self, size: tuple[int, int]) -> Pixels:
        """The same images at another size, with a new finest level of zeros."""
        finest = self._levels[0].new_zeros((*self._levels[0].shape[:2], *size))
        return Pixels([finest, *self._levels], size, self._chroma)

    def groups(self, rate: float) -> list[dict[str, Any]]:
        return [{"params": self._levels, "lr": rate}]

    def images(self) -> Tensor:
        total = self._levels[-1]
        for level in reversed(self._levels[:-1]):
            total = level + F.interpolate(total, level.shape[2:], mode="bilinear", align_corners=False)
        if self._colours is not None:
            total = torch.einsum("oc,nchw->nohw", self._colours, total)
        return torch.tanh(total).contiguous(memory_format=torch.channels_last)


def colour_axes(channels: int, chroma: float) -> Tensor | None:
    """Columns: light, red against blue, green against both, ``(3, 3)``; None for images that are not RGB."""
    if channels != 3 or chroma == 1.0:
        return None
    return torch.tensor([[1.0, chroma, -chroma / 2], [1.0, 0.0, chroma], [1.0, -chroma, -chroma / 2]])


class Generator(nn.Module):
    """Latents ``(N, latent)`` to images: a linear layer to a small map, then doubling and convolving up to size.

    After GENIE's (arXiv 2212.04780), whose map starts at a quarter of the side; here the map starts at 14 pixels or
    fewer, because a linear layer to 56 x 56 maps has a hundred million weights. tanh ends in the pixel range.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int, random: torch.Generator) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.doublings = max(2, math.ceil(math.log2(max(self.height, self.width) / 14)))
        self.base = tuple(math.ceil(side / 2**self.doublings) for side in (self.height, self.width))
        widths = [max(16, width >> i) for i in range(self.doublings + 1)]
        self.first = nn.Linear(latent, widths[0] * self.base[0] * self.base[1])
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[:-1])
        outputs = [*widths[1:-1], channels]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(widths[:-1], outputs, strict=True))
        for parameter in self.parameters():
            if parameter.dim() > 1:  # torch's own start, drawn from a generator of ours
                bound = 1 / math.sqrt(parameter[0].numel())
                parameter.data.uniform_(-bound, bound, generator=random)
        for layer in (self.first, *self.convs):
            layer.bias.data.zero_()

    def forward(self, latents: Tensor) -> Tensor:
        x = self.first(latents).view(len(latents), -1, *self.base).contiguous(memory_format=torch.channels_last)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = F.leaky_relu(norm(x), 0.2) if norm is not self.norms[0] else norm(x)
            x = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return torch.tanh(x[..., : self.height, : self.width])


class Latents:
    """Images are latents through a fresh generator, both optimised: pixels share what the generator learns."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        latent: int,
        width: int,
        random: torch.Generator,
        device: torch.device | None = None,
    ) -> None:
        self._latents = torch.randn((shape[0], latent), generator=random).to(device).requires_grad_()
        self._generator = Generator(shape[1:], latent, width, random).train().to(device)

    def groups(self, rate: float) -> list[dict[str, Any]]:
        # GENIE's rates: latents move ten times as fast as weights.
        return [
            {"params": [self._latents], "lr": rate},
            {"params": list(self._generator.parameters()), "lr": rate / 10},
        ]

    def images(self) -> Tensor:
        images: Tensor = self._generator(self._latents)
        return images
