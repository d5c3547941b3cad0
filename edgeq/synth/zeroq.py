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

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.run import GraphModule
from edgeq.synth.base import PASSES, SYNTHESIZERS, Request, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.losses import Moments, batch_moments, stored_moments

__all__ = ["image_gap", "zeroq"]

BATCH = 32
RATE = 0.5
MEAN, DEVIATION = 0.45, 0.225
"""Mean and deviation of pixels on the 0..1 scale that ImageNet's usual normalisation turns into 0 and 1."""

PATIENCE = 100
EPSILON = 1e-6
"""Added to variances before the square root, as in the published code."""

ITERATIONS = {"fast": 60, "balanced": 200, "best": 500}
"""Iterations per batch; 500 is the published number."""

PASSES["zeroq"] = lambda effort, images: images * ITERATIONS[effort]


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
        raise UnsupportedError(
            "zeroq needs batch-norm statistics",
            where=request.graph.name,
            why="the network has none (absent or folded)",
            hint="use --method gzsq, which reads weights",
        )
    teacher = GraphModule(request.graph).eval().requires_grad_(False)
    sizes = batch_sizes(request.images, BATCH)
    iterations = ITERATIONS[request.effort]
    parts = []
    for index, size in enumerate(sizes):
        images = read_images(request.checkpoint, index)
        if images is None:
            images = _batch(request, teacher, stored, size, index, (index * iterations, len(sizes) * iterations))
            keep(request.checkpoint, index, images)
        parts.append(images)
    inputs = np.concatenate(parts)
    return CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "zeroq")


def _batch(
    request: Request, teacher: GraphModule, stored: Mapping[str, Moments], size: int, index: int, span: tuple[int, int]
) -> npt.NDArray[np.float32]:
    generator = batch_generator(request.seed, index)
    # Contiguous and not channels-last: moments over space alone want each plane in one piece.
    images = torch.randn((size, *request.shape), generator=generator).requires_grad_()
    low, high = request.limits()
    middle, unit = low + MEAN * (high - low), DEVIATION * (high - low)
    standard = Moments(torch.zeros(request.shape[0]), torch.ones(request.shape[0]))
    optimiser = torch.optim.Adam([images], lr=RATE)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=PATIENCE, min_lr=1e-4)
    best, least = images.detach().clone(), math.inf
    for step in range(ITERATIONS[request.effort]):
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
        request.progress.step(span[0] + step + 1, span[1], f"statistics gap {value:.3f}")
    return (middle + unit * best).numpy().astype(np.float32)
