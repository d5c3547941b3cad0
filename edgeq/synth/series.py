"""Series for networks whose input is no picture: recordings, spectra, the axes of an accelerometer.

Nothing is assumed of a series but its range: no shapes, no smoothness, no views that are shifted, blurred or turned
round. It starts as Gaussian noise and is optimised until the batch norms see the mean and variance they remember (each
in units of the variance remembered, as in `edgeq.synth.losses.squared_gaps`), and until each series has its class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.config.typed import Amount, Positive
from edgeq.data.calibration import CalibrationSet
from edgeq.graph.run import GraphModule
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.losses import Moments, answer_spread, batch_moments, squared_gaps, stored_moments

__all__ = ["series"]

BATCH = 64
ITERATIONS = {"fast": 60, "balanced": 150, "best": 400}
DEVIATION = 0.25
"""Standard deviation of the noise at the start, where the range of the input is -1 to 1."""


@dataclass(frozen=True)
class Settings:
    """Adam at `rate`, which falls to 0 over the `iterations` of a batch, and the weights of two of three losses."""

    iterations: Positive
    rate: Amount = 0.05
    class_weight: Amount = 0.3
    spread_weight: Amount = 0.1


RECIPES["series"] = Recipe(
    lambda effort: Settings(ITERATIONS[effort]), lambda settings, images: images * int(settings.iterations)
)


@SYNTHESIZERS.register("series")
def series(request: Request) -> CalibrationSet:
    """Noise, optimised until batch norms see what they remember and each series has its class; no prior of pictures.

    Without batch norms and without classes or real values as answers, it stays noise.
    """
    network = GraphModule(request.graph).eval().requires_grad_(False).to(request.device)
    sizes = batch_sizes(request.images, BATCH)
    labels = torch.full((request.images,), -1)
    if request.classes > 1:
        labels = balanced_labels(request.images, request.classes, request.seed)
    parts: list[npt.NDArray[np.float32]] = []
    for index, mine in enumerate(torch.split(labels, sizes)):
        made = read_images(request.checkpoint, index)
        if made is None:
            made = _batch(request, network, mine, index, len(sizes))
            keep(request.checkpoint, index, made)
        parts.append(made)
    return CalibrationSet(np.concatenate(parts), labels.numpy().astype(np.int64), "series")


def _batch(request: Request, network: GraphModule, labels: Tensor, index: int, batches: int) -> npt.NDArray[np.float32]:
    """One of `batches`: a series for each of `labels`."""
    settings: Settings = request.settings("series")
    stored = {
        name: Moments(want.mean.to(request.device), want.var.to(request.device))
        for name, want in stored_moments(request.graph).items()
    }
    low, high = (limit.to(request.device) for limit in request.limits())
    noise = torch.randn((len(labels), *request.shape), generator=batch_generator(request.seed, index))
    units = (DEVIATION * noise).clamp(-1, 1).to(request.device).requires_grad_()
    optimiser = torch.optim.Adam([units], lr=settings.rate, betas=(0.5, 0.9))
    total = settings.iterations if stored or request.classes > 1 or request.values else 0
    for step in range(total):
        optimiser.param_groups[0]["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * step / total))
        seen: dict[str, Moments] = {}

        def tap(name: str, value: Tensor, seen: dict[str, Moments] = seen) -> None:
            if name in stored:
                seen[name] = batch_moments(value.contiguous())

        optimiser.zero_grad()
        answers = network.run((low + high) / 2 + (high - low) / 2 * units, visit=tap)[request.graph.outputs[0]]
        gap = squared_gaps(seen, stored)
        loss = gap
        if request.classes > 1:
            loss = loss + settings.class_weight * F.cross_entropy(answers.flatten(1), labels.to(request.device))
        elif request.values and len(labels) > 1:
            loss = loss - settings.spread_weight * answer_spread(answers.flatten(1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            units.clamp_(-1, 1)
        request.progress.step(index * total + step + 1, batches * total, f"statistics gap {float(gap.detach()):.3f}")
    with torch.no_grad():
        made = (low + high) / 2 + (high - low) / 2 * units
    return made.cpu().numpy().astype(np.float32)
