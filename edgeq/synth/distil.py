"""Optimise images: pull those of a source towards the statistics and labels that a teacher wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.config.typed import Amount, Count, Share
from edgeq.synth.losses import answer_spread, squared_gaps, total_variation
from edgeq.synth.sources import Source
from edgeq.synth.teacher import RunningMoments, Teacher

__all__ = ["Pixel", "Pull", "Stall", "distil", "schedule", "shift_randomly", "smooth"]

Report = Callable[[int, str], None]
"""Progress callback: gets the number of iterations done, and a note."""


@dataclass(frozen=True)
class Pull:
    """Weights of the losses, and the random views in which images are judged.

    `variation_weight` and `size_weight` are the image prior: squared differences of neighbours, and squared distance
    from the middle of the pixel range (without it some images of a batch drown in black and white for the others).
    `shift`: images are rolled by up to this share of their side, each iteration. `smooth`: standard deviation in pixels
    of a low-pass filter on what the teacher sees (0: none). `patience`: iterations of one window of the stall test (0:
    never stop early). `spread_weight` is that of varied answers, where these are real values.
    """

    rate: Amount
    class_weight: Amount
    statistics_weight: Amount
    variation_weight: Amount
    size_weight: Amount
    shift: Share
    flip: bool
    smooth: Amount
    warm_up: Count
    cooling: Share
    patience: Count
    spread_weight: Amount = 0.1


@dataclass(frozen=True)
class Pixel:
    """Normalised value of a pixel in units: ``middle + reach * unit``, both ``(1, C, 1, 1)``."""

    middle: Tensor
    reach: Tensor

    def normalised(self, units: Tensor) -> Tensor:
        return self.middle + self.reach * units

    def to(self, device: torch.device) -> Pixel:
        """The same on `device`."""
        return Pixel(self.middle.to(device), self.reach.to(device))


class Stall:
    """Stall test: true once a window's mean gap is not smaller than the previous one's by the share `least`."""

    def __init__(self, patience: int, least: float = 0.02) -> None:
        self.patience, self.least = patience, least
        self._window: list[float] = []
        self._before = math.inf

    def __call__(self, gap: float) -> bool:
        if self.patience == 0:
            return False
        self._window.append(gap)
        if len(self._window) < self.patience:
            return False
        mean = sum(self._window) / len(self._window)
        stalled = mean > (1 - self.least) * self._before
        self._before, self._window = mean, []
        return stalled


def schedule(step: int, steps: int, pull: Pull) -> float:
    """Share of the rate: a linear warm-up, a plateau, and a cosine to zero over the last `cooling` of the steps."""
    start = steps - round(steps * pull.cooling)
    if step >= start:
        return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, steps - start)))
    return min(1.0, (step + 1) / max(1, pull.warm_up))


def distil(
    source: Source,
    teacher: Teacher,
    labels: Tensor | None,
    steps: int,
    pull: Pull,
    *,
    pixel: Pixel,
    finished: RunningMoments,
    random: torch.Generator,
    report: Report,
    values: bool = False,
) -> int:
    """Optimise the images of `source` towards the teacher's statistics and their labels; returns the iterations done.

    `values`: the outputs are real values, and the images shall have varied ones.

    When the gap stalls on the plateau, the rest of the plateau is left out and the cooling begins.
    """
    groups = source.groups(pull.rate)
    rates = [group["lr"] for group in groups]
    optimiser = torch.optim.Adam(groups, betas=(0.5, 0.9))
    cooling = steps - round(steps * pull.cooling)
    size = teacher.graph.shapes[teacher.graph.inputs[0]][2:]
    stalled, step, done = Stall(pull.patience), 0, 0
    while step < steps:
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, steps, pull)
        optimiser.zero_grad()
        units = source.images()
        view = shift_randomly(units, pull, random)
        if view.shape[2:] != size:
            view = F.interpolate(view, size, mode="bilinear", align_corners=False)
        if pull.smooth > 0:
            view = smooth(view, pull.smooth)
        seen, logits = teacher.look(pixel.normalised(view), random)
        gap = squared_gaps(finished.merge(seen, len(units)), teacher.stored)
        loss = pull.statistics_weight * gap + pull.variation_weight * total_variation(units)
        loss = loss + pull.size_weight * units.square().mean()
        if labels is not None:
            loss = loss + pull.class_weight * F.cross_entropy(logits, labels)
        elif values and len(units) > 1:
            loss = loss - pull.spread_weight * answer_spread(logits)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        done += 1
        step += 1
        if step < cooling and stalled(float(gap.detach())):
            step = cooling
        report(step, f"statistics gap {float(gap.detach()):.3f}")
    return done


def shift_randomly(images: Tensor, pull: Pull, random: torch.Generator) -> Tensor:
    """A random roll of the whole batch and a random mirror, so that no pixel is tied to one position in the kernels."""
    reach = [max(1, round(pull.shift * side)) if pull.shift > 0 else 0 for side in images.shape[-2:]]
    shift = [int(torch.randint(-r, r + 1, (), generator=random)) for r in reach]
    view = torch.roll(images, shift, (-2, -1))
    if pull.flip and bool(torch.rand((), generator=random) < 0.5):
        view = view.flip(-1)
    return view


def smooth(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian low-pass over rows and columns, the border replicated; same shape."""
    reach = max(1, round(2 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma).square())
    taps = taps / taps.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    down = F.conv2d(padded, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(down, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
