"""GZSQ read to the letter: calibration images from weight statistics, for networks without batch norm.

Sharma, Abraham, Rajendiran, "Generalized Zero-Shot Quantization via Learned Weights Statistics", arXiv 2112.02834, IEEE
TMM 25: estimated statistics, empirical adjustment, absolute Z-score loss, as far as they are known. It is kept for the
comparison in docs/explanation/methods/gzsq.md; `edgeq.synth.gzsq` is the method to use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.config.typed import Amount, Count, Positive
from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.passes.fold_batchnorm import fold_batchnorm
from edgeq.graph.run import GraphModule
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.losses import Moments, batch_moments
from edgeq.synth.weightstats import Statistics, estimate_faithful

__all__ = ["gzsq_literal", "z_score"]

Loss = Callable[[Mapping[str, Moments], Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """Schedule of the distillation, per batch. The paper's optimiser could not be read, so this is ZeroQ's."""

    iterations: Positive
    rate: Amount = 0.5
    batch: Positive = 32
    patience: Count = 100


ITERATIONS = {"fast": 30, "balanced": 100, "best": 500}
RECIPES["gzsq-literal"] = Recipe(
    lambda effort: Settings(ITERATIONS[effort]), lambda settings, images: images * int(settings.iterations)
)


def z_score(have: Moments, want: Moments, epsilon: float = 1e-6) -> Tensor:
    """Absolute Z-score per channel ``(C,)``: |μ_u − μ_v| / sqrt((σ_u + s)² + (σ_v + s)²), s = 1e-6 (GZSQ)."""
    spread = ((have.var + 1e-20).sqrt() + epsilon).square() + ((want.var + 1e-20).sqrt() + epsilon).square()
    return (have.mean - want.mean).abs() / spread.sqrt()


@SYNTHESIZERS.register("gzsq-literal")
def gzsq_literal(request: Request) -> CalibrationSet:
    """GZSQ as published: matches statistics estimated from weights; needs neither batch norm nor labels."""
    graph = fold_batchnorm(request.graph)
    targets = _tensors(estimate_faithful(graph))
    standard = Moments(torch.zeros(request.shape[0]), torch.ones(request.shape[0]))

    def loss(seen: Mapping[str, Moments], images: Tensor) -> Tensor:
        total = z_score(batch_moments(images), standard).mean()
        for name, want in targets.items():
            total = total + z_score(seen[name], want).mean()
        return total

    return _distil(request, graph, request.settings("gzsq-literal"), frozenset(targets), loss, "gzsq-literal")


def _tensors(statistics: Mapping[str, Statistics]) -> dict[str, Moments]:
    return {
        name: Moments(torch.from_numpy(s.mean).float(), torch.from_numpy(s.std**2).float())
        for name, s in statistics.items()
    }


def _distil(
    request: Request,
    graph: Graph,
    settings: Settings,
    taps: frozenset[str],
    loss_of: Loss,
    method: str,
) -> CalibrationSet:
    """Adam on pixels, rate halved whenever the loss stops falling; the best iterate of each batch is kept."""
    network = GraphModule(graph).eval().requires_grad_(False)
    sizes = batch_sizes(request.images, settings.batch)
    parts: list[npt.NDArray[np.float32]] = []
    for index, size in enumerate(sizes):
        images = read_images(request.checkpoint, index)
        if images is None:

            def report(step: int, note: str, before: int = index * settings.iterations) -> None:
                request.progress.step(before + step, len(sizes) * settings.iterations, note)

            start = torch.randn((size, *request.shape), generator=batch_generator(request.seed, index))
            images = _batch(settings, network, taps, loss_of, start, report)
            keep(request.checkpoint, index, images)
        parts.append(images)
    inputs = np.concatenate(parts)
    return CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), method)


def _batch(
    settings: Settings,
    network: GraphModule,
    taps: frozenset[str],
    loss_of: Loss,
    start: Tensor,
    report: Callable[[int, str], None],
) -> npt.NDArray[np.float32]:
    images = start.to(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=settings.rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=settings.patience, min_lr=1e-4)
    best, best_loss = images.detach().clone(), math.inf
    for step in range(settings.iterations):
        seen: dict[str, Moments] = {}

        def tap(name: str, value: Tensor, seen: dict[str, Moments] = seen) -> None:
            if name in taps:
                seen[name] = batch_moments(value)

        optimiser.zero_grad()
        network.run(images, visit=tap)
        loss = loss_of(seen, images)
        value = float(loss.detach())
        if value < best_loss:
            best, best_loss = images.detach().clone(), value
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        plateau.step(value)
        report(step + 1, f"loss {value:.3f}")
    return best.contiguous().numpy().astype(np.float32)
