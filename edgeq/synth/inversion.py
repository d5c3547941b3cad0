"""Class inversion, starting from dead-leaves images; needs no data and no batch norm.

`leaves` makes dead-leaves images: random shapes that hide one another. Their early activations resemble those of
photographs, but deep layers see no object in them and stay too quiet. So `inversion` changes each image until the
classifier finds the class that was assigned to it, and no further. Both methods are edgeq's own; the optimisation is
the model inversion of Mahendran and Vedaldi (CVPR 2015) with another start.
docs/explanation/methods/gzsq.md compares them with statistics estimated from weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.config.typed import Amount, Inside, Positive, Share
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import MethodLimitError
from edgeq.graph.run import GraphModule
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images
from edgeq.synth.distil import Pixel
from edgeq.synth.losses import total_variation
from edgeq.synth.pictures import dead_leaves

__all__ = ["Settings", "degrees_of_doubt", "draw_leaves", "inversion", "invert", "leaves", "random_view"]

ITERATIONS = {"fast": 80, "balanced": 160, "best": 400}
BATCH = 32


@dataclass(frozen=True)
class Settings:
    """`rate` and `shift` are in half pixel ranges and in sides. `benchmarks/without_batchnorm.py` compares settings.

    An image is left alone once the classifier is sure of it: the first of a batch at the lower end of `confidence`, the
    last at the upper, evenly in log-doubt between. Photographs leave a classifier in every degree of doubt. All pushed
    to the upper end, activations grow beyond what photographs cause; all left at the lower, clear cases get clipped.
    The first `untouched` of a batch, a share, stay random shapes: no photograph is all object, and biases corrected on
    inverted images alone do worse on anything else. Every iteration moves the batch by up to `shift`, so that no pixel
    is tied to one position in the kernels.
    """

    iterations: Positive = ITERATIONS["balanced"]
    rate: Amount = 0.04
    confidence: tuple[Inside, Inside] = (0.5, 0.999)
    smoothness: Amount = 0.02
    shift: Share = 0.06
    untouched: Share = 0.25


RECIPES["inversion"] = Recipe(
    lambda effort: Settings(ITERATIONS[effort]), lambda settings, images: images * int(settings.iterations)
)


@SYNTHESIZERS.register("leaves")
def leaves(request: Request) -> CalibrationSet:
    """Dead-leaves images (`edgeq.synth.pictures`), not optimised."""
    images = draw_leaves(request, request.images, 0)
    return CalibrationSet(images.numpy(), np.full(len(images), -1, np.int64), "leaves")


@SYNTHESIZERS.register("inversion")
def inversion(request: Request) -> CalibrationSet:
    """Dead-leaves images, each optimised until the classifier sees the class assigned to it.

    Without classes (no classifier) the images stay as `leaves` makes them. Raises `UnsupportedError` for real values.
    """
    return invert(request, request.settings("inversion"))


def invert(request: Request, settings: Settings) -> CalibrationSet:
    """`inversion` with explicit `settings`, which replace those of the request's effort."""
    if request.values:
        raise MethodLimitError(
            "inversion needs classes to draw",
            where=request.graph.name,
            why="the outputs are real values",
            hint="use --method gzsq, or gznq with batch norm",
        )
    if request.classes < 2:
        return leaves(request)
    network = GraphModule(request.graph).eval().requires_grad_(False).to(request.device)
    sizes = batch_sizes(request.images, BATCH)
    kept = [round(settings.untouched * size) for size in sizes]
    pulled = [size - some for size, some in zip(sizes, kept, strict=True)]
    dealt = torch.split(balanced_labels(sum(pulled), request.classes, request.seed), pulled)
    parts: list[npt.NDArray[np.float32]] = []
    labels: list[Tensor] = []
    for index, (some, mine) in enumerate(zip(kept, dealt, strict=True)):
        images = read_images(request.checkpoint, index)
        if images is None:
            images = _batch(request, settings, network, some, mine, (index, len(sizes)))
            keep(request.checkpoint, index, images)
        parts.append(images)
        labels += [torch.full((some,), -1), mine]
    return CalibrationSet(np.concatenate(parts), torch.cat(labels).numpy().astype(np.int64), "inversion")


def draw_leaves(request: Request, count: int, index: int) -> Tensor:
    """`count` dead-leaves images ``(N, C, H, W)`` within the request's pixel range; `index` is the batch."""
    low, high = request.limits()
    pictures = dead_leaves(count, request.shape, (request.seed * 1_000_003 + index) % 2**31)
    return low + (high - low) * torch.from_numpy(pictures)


def _batch(
    request: Request, settings: Settings, network: GraphModule, kept: int, labels: Tensor, place: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """`kept` images as they are, then one for each of `labels`; `place` is which batch of how many."""
    index, batches = place
    generator = batch_generator(request.seed, index)
    low, high = request.limits()
    drawn = draw_leaves(request, kept + len(labels), index)
    if not len(labels):
        return drawn.numpy()
    pixel = Pixel((low + high) / 2, (high - low) / 2).to(request.device)
    start = (drawn[kept:].to(request.device) - pixel.middle) / pixel.reach
    images = start.to(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=settings.rate, betas=(0.5, 0.9))
    enough = degrees_of_doubt(settings.confidence, len(labels)).to(request.device)
    target = labels.to(request.device)
    total = settings.iterations
    for step in range(total):
        optimiser.param_groups[0]["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * step / total))
        optimiser.zero_grad()
        view = random_view(images, settings.shift, generator)
        answers = network.run(pixel.normalised(view))[request.graph.outputs[0]].flatten(1)
        doubt = F.cross_entropy(answers, target, reduction="none")
        loss = F.relu(doubt - enough).mean() + settings.smoothness * total_variation(view)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            images.clamp_(-1, 1)
        request.progress.step(
            index * total + step + 1, batches * total, f"cross-entropy {float(doubt.detach().mean()):.2f}"
        )
    with torch.no_grad():
        clipped = torch.minimum(torch.maximum(pixel.normalised(images).cpu(), low), high)
    return torch.cat([drawn[:kept], clipped]).contiguous().numpy().astype(np.float32)


def degrees_of_doubt(confidence: tuple[float, float], count: int) -> Tensor:
    """`count` cross-entropies ``(count,)`` at which an image is left alone, from the lower to the upper confidence."""
    doubts = [-math.log(share) for share in confidence]
    return torch.logspace(math.log10(doubts[0]), math.log10(doubts[1]), count)


def random_view(images: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """The batch rolled by a random distance of at most `shift` sides, and mirrored half of the time."""
    reach = [max(1, round(shift * side)) for side in images.shape[-2:]]
    view = torch.roll(images, [int(torch.randint(-r, r + 1, (), generator=generator)) for r in reach], (-2, -1))
    return view.flip(-1) if bool(torch.rand((), generator=generator) < 0.5) else view
