"""Images to fine-tune on: random views of a calibration set, images of a generator, or a mixture."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from edgeq.synth.distil import Pixel
from edgeq.synth.generators import Generator

__all__ = ["Drawn", "ImageSet", "Leashed", "Mixed", "Source"]


class Source(Protocol):
    """Interface of a source of normalised images."""

    def images(self, count: int, random: torch.Generator) -> Tensor:
        """``(count, C, H, W)``, without gradient."""


class ImageSet:
    """Images of a set drawn at random, each moved by up to `shift` of its side and mirrored half of the time.

    `blend`: every second one then shows another through itself, by a share drawn from 0 to `blend` (mixup's images, not
    its labels). Images optimised until the network is sure of them teach little but sureness; halfway between, it is
    not. Not all of them: a blend has less contrast, and steps learned on blends alone clip what is not blended.
    """

    def __init__(self, inputs: Tensor, shift: float, blend: float = 0.0) -> None:
        self._inputs, self._shift, self._blend = inputs, shift, blend

    def images(self, count: int, random: torch.Generator) -> Tensor:
        chosen = self._inputs[torch.randint(len(self._inputs), (count,), generator=random)].clone()
        reach = [round(self._shift * side) for side in chosen.shape[2:]]
        for place in range(count):
            move = [int(torch.randint(-r, r + 1, (), generator=random)) for r in reach]
            moved = torch.roll(chosen[place], move, (-2, -1))
            chosen[place] = moved.flip(-1) if bool(torch.rand((), generator=random) < 0.5) else moved
        if self._blend == 0:
            return chosen
        share = (self._blend * torch.rand((count, 1, 1, 1), generator=random)).to(chosen.device)
        share[::2] = 0
        return (1 - share) * chosen + share * chosen.roll(1, 0)


class Drawn:
    """Images that a generator draws from new latents, normalised; labels are balanced if it has classes."""

    def __init__(self, generator: Generator, pixel: Pixel) -> None:
        self.generator, self._pixel = generator, pixel

    def to(self, device: torch.device) -> Drawn:
        """Move the generator to `device`, and draw there."""
        return Drawn(self.generator.to(device), self._pixel.to(device))

    def labels(self, count: int, random: torch.Generator) -> Tensor | None:
        classes = self.generator.classes
        return torch.randint(classes, (count,), generator=random) if classes else None

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """Images with gradients into the generator."""
        labels, latents = self.labels(count, random), self.generator.draw(count, random)
        device = next(self.generator.parameters()).device
        images = self.generator(latents.to(device), labels.to(device) if labels is not None else None)
        return self._pixel.normalised(images)

    @torch.no_grad()
    def images(self, count: int, random: torch.Generator) -> Tensor:
        return self.draw(count, random)


class Leashed(Drawn):
    """Images of a generator, each blended with an image of a set; its share is drawn from 0 to `leash`.

    Without this, a generator that raises the discrepancy finds within a few steps images that are like nothing the
    network was made for, and a student that follows it forgets the rest. Blended, its images show what can go wrong
    near images that make sense.
    """

    def __init__(self, generator: Generator, pixel: Pixel, around: Source, leash: float) -> None:
        super().__init__(generator, pixel)
        self._around, self._leash = around, leash

    def to(self, device: torch.device) -> Leashed:
        return Leashed(self.generator.to(device), self._pixel.to(device), self._around, self._leash)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        images = super().draw(count, random)
        share = self._leash * torch.rand((count, 1, 1, 1), generator=random).to(images.device)
        return (1 - share) * self._around.images(count, random).to(images.device) + share * images


class Mixed:
    """Batches of which `share` comes from one source and the rest from another."""

    def __init__(self, one: Source, other: Source, share: float) -> None:
        self._one, self._other, self._share = one, other, share

    def images(self, count: int, random: torch.Generator) -> Tensor:
        first = round(self._share * count)
        parts = [source.images(n, random) for source, n in ((self._one, first), (self._other, count - first)) if n]
        return torch.cat([part.to(parts[-1].device) for part in parts])
