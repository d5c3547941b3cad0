"""What a synthesizer is given, what it gives back, and where it is registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.progress import Progress, Silent
from edgeq.registry import Registry

__all__ = [
    "JOINED",
    "PASSES",
    "SYNTHESIZERS",
    "Request",
    "Synthesizer",
    "balanced_labels",
    "batch_generator",
    "batch_sizes",
    "passes_needed",
    "shares",
]

Synthesizer = Callable[["Request"], CalibrationSet]

SYNTHESIZERS: Registry[Synthesizer] = Registry(
    "synthesizer",
    (
        "edgeq.synth.baselines",
        "edgeq.synth.gznq",
        "edgeq.synth.gzsq",
        "edgeq.synth.zeroq",
        "edgeq.synth.inversion",
        "edgeq.synth.zs_cgan",
    ),
)

JOINED = "+"
"""Between the names of methods that each make a share of the images: ``gznq+inversion``."""

PASSES: dict[str, Callable[[str, int], int]] = {}
"""Forward and backward passes of one image that a method makes at an effort, for a number of images; methods that
optimise add themselves."""


@dataclass(frozen=True)
class Request:
    """Everything a data-free method may know: the captured network, how its input is normalised, and a seed.

    `graph` still holds its batch norms. `low` and `high` are the normalised values of pixel 0 and pixel 255 per channel
    ``(C,)``. `classes` is 0 when the network is no classifier. `checkpoint` is a folder where finished batches are
    kept, so that an interrupted run continues with the same bytes; `products` one for what is made beside images.
    `device` is where methods that go through the network hundreds of times (gznq, inversion, zs-cgan) compute; what
    they return is on the processor. Random numbers are the processor's everywhere, sums are the device's, and a GPU's
    may come in another order each time: there, equal requests give images that are alike and not equal.
    """

    graph: Graph
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    classes: int
    images: int
    seed: int
    effort: str = "balanced"
    checkpoint: Path | None = None
    progress: Progress = field(default_factory=Silent)
    products: Path | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value

    @property
    def shape(self) -> tuple[int, int, int]:
        """One input image, ``(C, H, W)``."""
        _, c, h, w = self.graph.shapes[self.graph.inputs[0]]
        return c, h, w

    def limits(self) -> tuple[Tensor, Tensor]:
        """Pixel range as tensors ``(1, C, 1, 1)``, on the processor whatever `device` is."""
        low, high = (torch.from_numpy(np.asarray(v, np.float32)).view(1, -1, 1, 1) for v in (self.low, self.high))
        return low, high


def batch_sizes(images: int, batch: int) -> list[int]:
    """Split `images` into batches as equal as can be: batch statistics need company, so no tiny last batch."""
    count = max(1, -(-images // batch))
    return [images // count + (i < images % count) for i in range(count)]


def balanced_labels(images: int, classes: int, seed: int) -> Tensor:
    """Labels with every class as often as any other (±1), int64 ``(images,)``, in a seeded random order."""
    generator = torch.Generator().manual_seed(seed)
    rounds = [torch.randperm(classes, generator=generator) for _ in range(-(-images // classes))]
    labels = torch.cat(rounds)[:images]
    return labels[torch.randperm(images, generator=generator)]


def batch_generator(seed: int, batch: int) -> torch.Generator:
    """Random numbers of one batch, independent of which batches ran before it in this process."""
    return torch.Generator().manual_seed((seed * 1_000_003 + batch * 7919 + 17) % (2**63))


def shares(images: int, method: str) -> list[tuple[str, int]]:
    """Each of the methods joined in `method`, and how many of the images it makes: as many as any other, ±1."""
    parts = [method] if method.startswith("images:") else method.split(JOINED)
    return [(part, images // len(parts) + (i < images % len(parts))) for i, part in enumerate(parts)]


def passes_needed(method: str, effort: str, images: int) -> int:
    """Forward and backward passes of one image that a method needs; 0 for methods that optimise nothing."""
    list(SYNTHESIZERS)  # the modules that add to PASSES are imported on first use
    return sum(PASSES[part](effort, size) for part, size in shares(images, method) if part in PASSES and size)
