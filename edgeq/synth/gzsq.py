"""GZSQ made to work: images that match statistics estimated from learned weights, for networks without batch norm.

The idea is that of Sharma, Abraham, Rajendiran, "Generalized Zero-Shot Quantization via Learned Weights Statistics",
arXiv 2112.02834: estimate what the layers saw in training from weights alone, then optimise images until they show it.
The paper's own estimate and loss are in `edgeq.synth.gzsq_literal`. The estimate here is that of
`edgeq.synth.learnedstats`. The loss counts means and spreads. Images start as dead leaves and stay within the range of
pixels.

Random shapes hold no objects and leave the last layers too quiet. So half of the images of a batch are also pulled
towards a class, in every degree of doubt, as in `inversion`, and the statistics are estimated again as the images
change. docs/explanation/methods/gzsq.md has the ablation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.config.typed import Above, Amount, Inside, Positive, Share
from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.passes.fold_batchnorm import fold_batchnorm
from edgeq.graph.run import GraphModule
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.distil import Pixel
from edgeq.synth.inversion import degrees_of_doubt, draw_leaves, random_view
from edgeq.synth.learnedstats import estimate_learned
from edgeq.synth.losses import Moments, answer_spread, batch_moments, total_variation

__all__ = ["Settings", "gzsq", "synthesize"]

ITERATIONS = {"fast": 30, "balanced": 60, "best": 200}
BATCH = 32

FIELDS = 16
"""Pictures that statistics are estimated with."""

QUIET = 0.03
"""Share of a layer's spread (root mean square) below which the spread of a channel is no unit to measure gaps in."""


@dataclass(frozen=True)
class Settings:
    """`rate` and `shift` are in half pixel ranges and in sides.

    `statistics`, `answers` and `smoothness` are the weights of the three losses. A share `free` of each batch is dealt
    no class, and the others are pulled until their degree of doubt is one of those that `confidence` spans. The
    statistics are estimated `estimates` times, the first time on random shapes and then on the images of the moment. A
    gap counts by its square up to `bend` standard deviations, and by its logarithm far beyond. `spread` is the weight
    of varied answers, where these are real values.
    """

    iterations: Positive = ITERATIONS["balanced"]
    rate: Amount = 0.04
    statistics: Amount = 1.0
    answers: Amount = 1.0
    confidence: tuple[Inside, Inside] = (0.5, 0.999)
    free: Share = 0.5
    smoothness: Amount = 0.02
    shift: Share = 0.06
    estimates: Positive = 3
    bend: Above = 1.0
    spread: Amount = 0.3


RECIPES["gzsq"] = Recipe(
    lambda effort: Settings(ITERATIONS[effort]), lambda settings, images: images * int(settings.iterations)
)


@SYNTHESIZERS.register("gzsq")
def gzsq(request: Request) -> CalibrationSet:
    """Images that match statistics estimated from learned weights; needs neither batch norm nor data.

    Without classes (no classifier) nothing but the statistics is matched.
    """
    return synthesize(request, request.settings("gzsq"))


def synthesize(request: Request, settings: Settings) -> CalibrationSet:
    """`gzsq` with explicit `settings`, which replace those of the request's effort."""
    work = _Work(request, settings)
    sizes = batch_sizes(request.images, BATCH)
    free = [size if request.classes < 2 else round(settings.free * size) for size in sizes]
    pulled = [size - some for size, some in zip(sizes, free, strict=True)]
    labels = balanced_labels(sum(pulled), request.classes, request.seed) if sum(pulled) else torch.zeros(0).long()
    parts: list[npt.NDArray[np.float32]] = []
    known: list[Tensor] = []
    for index, (some, mine) in enumerate(zip(free, torch.split(labels, pulled), strict=True)):
        images = read_images(request.checkpoint, index)
        if images is None:
            images = work.batch(some, mine, index, len(sizes))
            keep(request.checkpoint, index, images)
        parts.append(images)
        known += [torch.full((some,), -1), mine]
    return CalibrationSet(np.concatenate(parts), torch.cat(known).numpy().astype(np.int64), "gzsq")


class _Work:
    """What all batches of one request share."""

    def __init__(self, request: Request, settings: Settings) -> None:
        self.request, self.settings = request, settings
        self.graph: Graph = fold_batchnorm(request.graph)
        self.network = GraphModule(self.graph).eval().requires_grad_(False).to(request.device)
        low, high = request.limits()
        self.low, self.high = low, high
        self.pixel = Pixel((low + high) / 2, (high - low) / 2).to(request.device)

    def batch(self, free: int, labels: Tensor, index: int, batches: int) -> npt.NDArray[np.float32]:
        """`free` images without a class, then one for each of `labels`, optimised together."""
        settings, request = self.settings, self.request
        generator = batch_generator(request.seed, index)
        size = free + len(labels)
        shapes = draw_leaves(request, size, index)
        # A small batch alone would be a poor sample; these fill it up.
        others = draw_leaves(request, max(0, FIELDS - size), index + batches)
        targets = self._estimate(torch.cat([shapes, others]))
        start = (shapes.to(request.device) - self.pixel.middle) / self.pixel.reach
        images = start.to(memory_format=torch.channels_last).requires_grad_()
        optimiser = torch.optim.Adam([images], lr=settings.rate, betas=(0.5, 0.9))
        enough = degrees_of_doubt(settings.confidence, len(labels)).to(request.device)
        wanted, total = labels.to(request.device), settings.iterations
        again = {round(total * part / settings.estimates) for part in range(1, settings.estimates)}
        for step in range(total):
            if step in again:
                targets = self._estimate(torch.cat([self._normalised(images), others]))
            optimiser.param_groups[0]["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * step / total))
            optimiser.zero_grad()
            view = random_view(images, settings.shift, generator)
            gap, answers = self._look(view, targets)
            loss = settings.statistics * gap + settings.smoothness * total_variation(view)
            if request.values and size > 1:
                loss = loss - settings.spread * answer_spread(answers)
            if len(labels):
                doubt = F.cross_entropy(answers[free:], wanted, reduction="none")
                loss = loss + settings.answers * F.relu(doubt - enough).sum() / size
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                images.clamp_(-1, 1)
            note = f"statistics gap {float(gap.detach()):.3f}"
            request.progress.step(index * total + step + 1, batches * total, note)
        return self._normalised(images).contiguous().numpy().astype(np.float32)

    @torch.no_grad()
    def _normalised(self, images: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(self.pixel.normalised(images).cpu(), self.low), self.high)

    def _estimate(self, pictures: Tensor) -> dict[str, Moments]:
        chosen = torch.linspace(0, len(pictures) - 1, FIELDS).round().long()  # of every degree of doubt
        found = estimate_learned(self.graph, pictures[chosen])
        return {
            name: Moments(*(torch.from_numpy(v).float().to(self.request.device) for v in (s.mean, s.std**2)))
            for name, s in found.items()
        }

    def _look(self, view: Tensor, targets: Mapping[str, Moments]) -> tuple[Tensor, Tensor]:
        """The statistics gap of a batch, mean over layers, and all outputs ``(N, K)``."""
        gaps = [view.new_zeros(())]

        def tap(name: str, value: Tensor) -> None:
            if name in targets:
                gaps.append(_gap(batch_moments(value), targets[name], self.settings.bend))

        outputs = self.network.run(self.pixel.normalised(view), visit=tap)
        answers = torch.cat([outputs[name].flatten(1) for name in self.graph.outputs], 1)
        return torch.stack(gaps).sum() / max(1, len(targets)), answers


def _gap(have: Moments, want: Moments, bend: float) -> Tensor:
    """Mean over channels of the gaps of mean and standard deviation, squared and bent, in wanted deviations."""
    unit = want.var.sqrt().clamp_min(QUIET * float(want.var.mean().sqrt())).clamp_min(1e-6)
    gaps = torch.stack([have.mean - want.mean, (have.var + 1e-10).sqrt() - want.var.sqrt()]) / unit
    return bend**2 * torch.log1p((gaps / bend).square()).sum(0).mean()
