"""Pictures of nothing, pulled towards classes: calibration without data, batch norm or trust in weight statistics.

`leaves` are random occluding shapes, whose early activations resemble those of photographs. Deep layers see no object
in them and stay too quiet, so `inversion` changes each picture until the classifier finds the class it was dealt, and
no further. Both are edgeq's own; the optimisation is the classic model inversion of Mahendran and Vedaldi (CVPR 2015)
from a better start. docs/methods/gzsq.md says how they compare with statistics estimated from weights.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.run import GraphModule
from edgeq.synth.base import ROUNDS, SYNTHESIZERS, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import finished, keep
from edgeq.synth.losses import total_variation
from edgeq.synth.pictures import dead_leaves

__all__ = ["inversion", "leaves"]

ITERATIONS = {"fast": 40, "balanced": 80, "best": 200}
BATCH = 32
RATE = 0.05
SMOOTHNESS = 0.02
SHIFT = 0.06
"""Of the side, each iteration: no pixel is tied to one position in the kernels."""

CONFIDENT = -math.log(0.9)
"""Cross-entropy below which an image is left alone: pushed on, activations grow beyond anything a photograph causes."""

ROUNDS["inversion"] = lambda effort: ITERATIONS[effort]


@SYNTHESIZERS.register("leaves")
def leaves(request: Request) -> CalibrationSet:
    """Random occluding shapes, as they are."""
    images = _leaves(request, request.images, 0)
    return CalibrationSet(images.numpy(), np.full(len(images), -1, np.int64), "leaves")


@SYNTHESIZERS.register("inversion")
def inversion(request: Request) -> CalibrationSet:
    """Random occluding shapes, optimised until the classifier sees in each the class it was dealt.

    Without classes (no classifier) there is nothing to pull towards and they stay `leaves`.
    """
    if request.classes < 2:
        return leaves(request)
    network = GraphModule(request.graph).eval().requires_grad_(False)
    labels = balanced_labels(request.images, request.classes, request.seed)
    sizes = batch_sizes(request.images, BATCH)
    parts: list[npt.NDArray[np.float32]] = []
    for index, dealt in enumerate(torch.split(labels, sizes)):
        images = finished(request.checkpoint, index)
        if images is None:
            images = _batch(request, network, dealt, index, len(sizes))
            keep(request.checkpoint, index, images)
        parts.append(images)
    return CalibrationSet(np.concatenate(parts), labels.numpy().astype(np.int64), "inversion")


def _leaves(request: Request, count: int, index: int) -> Tensor:
    low, high = request.limits()
    pictures = dead_leaves(count, request.shape, (request.seed * 1_000_003 + index) % 2**31)
    return low + (high - low) * torch.from_numpy(pictures)


def _batch(request: Request, network: GraphModule, labels: Tensor, index: int, batches: int) -> npt.NDArray[np.float32]:
    generator = batch_generator(request.seed, index)
    low, high = request.limits()
    images = _leaves(request, len(labels), index).to(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam([images], lr=RATE, betas=(0.5, 0.9))
    total = ITERATIONS[request.effort]
    for step in range(total):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / total))
        optimiser.zero_grad()
        view = _shifted(images, generator)
        answers = network.run(view)[request.graph.outputs[0]].flatten(1)
        doubt = F.cross_entropy(answers, labels, reduction="none")
        loss = F.relu(doubt - CONFIDENT).mean() + SMOOTHNESS * total_variation(view / ((high - low) / 2))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            images.copy_(torch.minimum(torch.maximum(images, low), high))
        request.progress.step(
            index * total + step + 1, batches * total, f"cross-entropy {float(doubt.detach().mean()):.2f}"
        )
    return images.detach().contiguous().numpy().astype(np.float32)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch rolled by a random distance, and mirrored half of the time."""
    reach = [max(1, round(SHIFT * side)) for side in images.shape[-2:]]
    view = torch.roll(images, [int(torch.randint(-r, r + 1, (), generator=generator)) for r in reach], (-2, -1))
    return view.flip(-1) if bool(torch.rand((), generator=generator) < 0.5) else view
