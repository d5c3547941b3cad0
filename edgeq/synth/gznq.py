"""GZNQ: images of every class out of batch-norm statistics, as generative modelling of those statistics.

He, Hu, Wang, Cheng, "Generative Zero-shot Network Quantization", arXiv 2101.08430. From the paper: class-conditional
images, squared gaps to the batch-norm means and variances, cross-entropy. Reconstructed (its later pages could not be
read): image prior, schedule, shift and flip, pixel-range constraint. See docs/methods/gznq.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.run import GraphModule
from edgeq.synth.base import ROUNDS, SYNTHESIZERS, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import finished, keep
from edgeq.synth.losses import Moments, batch_moments, squared_gaps, stored_moments, total_variation

__all__ = ["Settings", "gznq", "settings_for"]


@dataclass(frozen=True)
class Settings:
    """Weights and schedule of the optimisation; lengths are iterations per batch."""

    iterations: int = 150
    batch: int = 64
    rate: float = 0.1
    warm_up: int = 20
    class_weight: float = 0.2
    statistics_weight: float = 1.0
    variation_weight: float = 0.02
    shift: float = 0.06  # of the side, each iteration, wrapping round
    flip: bool = True


def settings_for(effort: str) -> Settings:
    """`fast`, `balanced` or `best`: more iterations buy closer moments."""
    return Settings(iterations={"fast": 60, "balanced": 150, "best": 500}[effort])


ROUNDS["gznq"] = lambda effort: settings_for(effort).iterations


@SYNTHESIZERS.register("gznq")
def gznq(request: Request) -> CalibrationSet:
    """Optimise the pixels of labelled images until the network's batch norms see the statistics they remember.

    Raises `UnsupportedError` where the network has no batch norm to remember anything.
    """
    stored = stored_moments(request.graph)
    if not stored:
        raise UnsupportedError(
            "gznq needs batch-norm statistics", where=request.graph.name, why="the network has none (absent or folded)",
            hint="use --method images:PATH with pictures of your own, or --method noise to see how bad noise is",
        )  # fmt: skip
    settings = settings_for(request.effort)
    teacher = GraphModule(request.graph).eval().requires_grad_(False)
    if request.classes > 0:
        labels = balanced_labels(request.images, request.classes, request.seed)
    else:
        labels = torch.full((request.images,), -1)
    sizes = batch_sizes(request.images, settings.batch)
    steps, parts = settings.iterations * len(sizes), []
    for index, labelled in enumerate(torch.split(labels, sizes)):
        images = finished(request.checkpoint, index)
        if images is None:
            images = _batch(request, settings, teacher, stored, labelled, index, (settings.iterations * index, steps))
            keep(request.checkpoint, index, images)
        parts.append(images)
    return CalibrationSet(np.concatenate(parts), labels.numpy().astype(np.int64), "gznq")


def _batch(
    request: Request,
    settings: Settings,
    teacher: GraphModule,
    stored: dict[str, Moments],
    labels: Tensor,
    index: int,
    span: tuple[int, int],
) -> npt.NDArray[np.float32]:
    """One batch, optimised together because the statistics are those of a batch."""
    generator = batch_generator(request.seed, index)
    low, high = request.limits()
    middle, reach = (low + high) / 2, (high - low) / 2
    start = (middle + reach / 2 * torch.randn((len(labels), *request.shape), generator=generator)).clamp(low, high)
    images = start.to(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=settings.rate, betas=(0.5, 0.9))
    for step in range(settings.iterations):
        optimiser.param_groups[0]["lr"] = settings.rate * _schedule(step, settings)
        optimiser.zero_grad()
        view = _augment(images, settings, generator)
        seen: dict[str, Moments] = {}

        def tap(name: str, value: Tensor, seen: dict[str, Moments] = seen) -> None:
            if name in stored:
                seen[name] = batch_moments(value)

        logits = teacher.run(view, visit=tap)[request.graph.outputs[0]]
        loss = settings.statistics_weight * squared_gaps(seen, stored)
        loss = loss + settings.variation_weight * total_variation(view / reach)
        if request.classes > 0:
            loss = loss + settings.class_weight * F.cross_entropy(logits.flatten(1), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            images.copy_(torch.minimum(torch.maximum(images, low), high))
        request.progress.step(span[0] + step + 1, span[1], f"statistics gap {float(loss.detach()):.3f}")
    return images.detach().contiguous().numpy().astype(np.float32)


def _schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.iterations - settings.warm_up)
    return float(0.5 * (1 + np.cos(np.pi * done)))


def _augment(images: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
    """A random roll of the whole batch and a random mirror, so that no pixel is tied to one position in the kernels."""
    height, width = images.shape[-2:]
    reach = (max(1, round(settings.shift * height)), max(1, round(settings.shift * width)))
    shift = [int(torch.randint(-r, r + 1, (), generator=generator)) for r in reach]
    view = torch.roll(images, shift, (-2, -1))
    if settings.flip and bool(torch.rand((), generator=generator) < 0.5):
        view = view.flip(-1)
    return view
