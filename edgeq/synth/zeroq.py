"""ZeroQ's distilled images: the baseline most data-free methods compare with.

Cai et al., "ZeroQ: A Novel Zero Shot Quantization Framework", CVPR 2020, its distillation only. As published: every
image on its own matches the mean and standard deviation each batch norm remembers (taken over space alone), and is
itself pulled to mean 0 and deviation 1; Adam at 0.5, the rate cut on a plateau; no labels, no prior, no pixel range.
Mean 0 and deviation 1 are meant of inputs normalised the usual way: pixels of mean 0.45 and deviation 0.225. Where a
network is fed otherwise (raw pixels, say), images are optimised in those units all the same.

Nothing asks for a class, so the logits of these images are small. Published results leave logits in float; an integer
network has to give them a range, and this one is too narrow for pictures: expect losses at any bit width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.config.typed import Amount, Count, Positive
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import MethodLimitError
from edgeq.graph.run import GraphModule
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.losses import Moments, batch_moments, stored_moments

__all__ = ["image_gap", "zeroq"]

BATCH = 32
MEAN, DEVIATION = 0.45, 0.225
"""Mean and deviation of pixels on the 0..1 scale that ImageNet's usual normalisation turns into 0 and 1."""

EPSILON = 1e-6
"""Added to variances before the square root, as in the published code."""

ITERATIONS = {"fast": 60, "balanced": 200, "best": 500}
"""Iterations per batch; 500 is the published number."""


@dataclass(frozen=True)
class Settings:
    """Schedule of the distillation, per batch: Adam at `rate`, divided by ten after `patience` steps without gain."""

    iterations: Positive
    rate: Amount = 0.5
    patience: Count = 100


RECIPES["zeroq"] = Recipe(
    lambda effort: Settings(ITERATIONS[effort]), lambda settings, images: images * int(settings.iterations)
)


def image_gap(value: Tensor, want: Moments) -> Tensor:
    """‖m − m̂‖² + ‖σ − σ̂‖² of an activation ``(N, C, H, W)``, moments over space of each image, mean over images."""
    n, c = value.shape[:2]
    seen = batch_moments(value.contiguous().view(1, n * c, *value.shape[2:]))
    mean, std = seen.mean.view(n, c), (seen.var.view(n, c) + EPSILON).sqrt()
    gaps = (mean - want.mean).square() + (std - (want.var + EPSILON).sqrt()).square()
    return gaps.sum() / n


@SYNTHESIZERS.register("zeroq")
def zeroq(request: Request) -> CalibrationSet:
    """ZeroQ's distillation: each image alone matches the mean and deviation the batch norms remember.

    Raises `UnsupportedError` where the network has no batch norm.
    """
    stored = stored_moments(request.graph)
    if not stored:
        raise MethodLimitError(
            "zeroq needs batch-norm statistics",
            where=request.graph.name,
            why="the network has none (absent or folded)",
            hint="use --method gzsq, which reads weights",
        )
    teacher = GraphModule(request.graph).eval().requires_grad_(False)
    sizes = batch_sizes(request.images, BATCH)
    settings = request.settings("zeroq")
    parts = []
    for index, size in enumerate(sizes):
        images = read_images(request.checkpoint, index)
        if images is None:
            images = _batch(request, teacher, stored, settings, (size, index, len(sizes)))
            keep(request.checkpoint, index, images)
        parts.append(images)
    inputs = np.concatenate(parts)
    return CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "zeroq")


def _batch(
    request: Request,
    teacher: GraphModule,
    stored: Mapping[str, Moments],
    settings: Settings,
    place: tuple[int, int, int],
) -> npt.NDArray[np.float32]:
    """One batch of so many images; which, of how many batches."""
    size, index, batches = place
    generator = batch_generator(request.seed, index)
    # Contiguous and not channels-last: moments over space alone want each plane in one piece.
    images = torch.randn((size, *request.shape), generator=generator).requires_grad_()
    low, high = request.limits()
    middle, unit = low + MEAN * (high - low), DEVIATION * (high - low)
    standard = Moments(torch.zeros(request.shape[0]), torch.ones(request.shape[0]))
    optimiser = torch.optim.Adam([images], lr=settings.rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=settings.patience, min_lr=1e-4)
    best, least = images.detach().clone(), math.inf
    for step in range(settings.iterations):
        gaps: list[Tensor] = []

        def tap(name: str, value: Tensor, gaps: list[Tensor] = gaps) -> None:
            if name in stored:
                gaps.append(image_gap(value, stored[name]))

        optimiser.zero_grad()
        teacher.run(middle + unit * images, visit=tap)
        loss = torch.stack(gaps).sum() + image_gap(images, standard)
        value = float(loss.detach())
        if value < least:
            best, least = images.detach().clone(), value
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        plateau.step(value)
        done = index * settings.iterations + step + 1
        request.progress.step(done, batches * settings.iterations, f"statistics gap {value:.3f}")
    return (middle + unit * best).numpy().astype(np.float32)
