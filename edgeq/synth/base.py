"""The interface of a synthesizer: its `Request`, its result, and the registry that finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.config.recipe import replaced
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import PluginError
from edgeq.graph.ir import Graph
from edgeq.progress import Progress, Silent
from edgeq.registry import Registry

__all__ = [
    "JOINED",
    "RECIPES",
    "SYNTHESIZERS",
    "Recipe",
    "Request",
    "Synthesizer",
    "balanced_labels",
    "batch_generator",
    "batch_sizes",
    "passes_needed",
    "settled",
    "shares",
    "synthesize_by",
]

Synthesizer = Callable[["Request"], CalibrationSet]

SYNTHESIZERS: Registry[Synthesizer] = Registry(
    "synthesizer",
    (
        "edgeq.synth.baselines",
        "edgeq.synth.gznq",
        "edgeq.synth.gzsq",
        "edgeq.synth.gzsq_literal",
        "edgeq.synth.zeroq",
        "edgeq.synth.inversion",
        "edgeq.synth.series",
        "edgeq.synth.zs_cgan",
    ),
)

JOINED = "+"
"""Separator in the name of a mixture of methods: ``gznq+inversion``."""


@dataclass(frozen=True)
class Recipe:
    """What a method that optimises is made of.

    `settings` gives the method's settings, a frozen dataclass, for an effort (``fast``, ``balanced``, ``best``).
    `passes` counts forward and backward passes of one image for such settings and a number of images; the estimate of
    ``edgeq build --plan`` reads it. `few_bits` gives what an effort sets otherwise where weights are rounded with
    compensation (`edgeq.quant.rounding.COMPENSATED` bits and fewer): that fits the images far more closely than ranges
    do, so a method may have to look longer for them.
    """

    settings: Callable[[str], Any]
    passes: Callable[[Any, int], int]
    few_bits: Callable[[str], Mapping[str, Any]] = lambda effort: {}


RECIPES: dict[str, Recipe] = {}
"""Recipes by name of the method. Each method's module adds its own."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Request:
    """Everything a data-free method may know: the captured network, how its input is normalised, and a seed.

    `graph` still holds its batch norms. `low` and `high` are the normalised values of pixel 0 and pixel 255 per channel
    ``(C,)``. `classes` is 0 when the network is no classifier. `values` says that the outputs are real values, whose
    whole range the images should show (`edgeq.synth.losses.answer_spread`). Finished batches are kept in the folder
    `checkpoint`, so that an interrupted run continues and ends with the same bytes. Anything made beside the images
    goes to the folder `products`. `recipe` holds settings that replace those of `effort`, by name of the method.

    `device` is where methods that run the network hundreds of times (gznq, gzsq, inversion, zs-cgan) compute; they
    return images on the CPU. Random numbers are always drawn on the CPU. A GPU may add in another order each time, so
    equal requests there give images that are alike but not equal.
    """

    graph: Graph
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    classes: int
    images: int
    seed: int
    effort: str = "balanced"
    recipe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checkpoint: Path | None = None
    progress: Progress = field(default_factory=Silent)
    products: Path | None = None
    device: torch.device = CPU
    values: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """One input image, ``(C, H, W)``."""
        _, c, h, w = self.graph.shapes[self.graph.inputs[0]]
        return c, h, w

    def settings(self, method: str) -> Any:
        """The settings of `method` for this request's effort and recipe. Raises `ConfigError` for what is none."""
        return settled(method, self.effort, self.recipe)

    def limits(self) -> tuple[Tensor, Tensor]:
        """Pixel range as tensors ``(1, C, 1, 1)``, on the processor whatever `device` is."""
        low, high = (torch.from_numpy(np.asarray(v, np.float32)).view(1, -1, 1, 1) for v in (self.low, self.high))
        return low, high


def batch_sizes(images: int, batch: int) -> list[int]:
    """Split `images` into batches of nearly equal size: the statistics of a tiny last batch mean little."""
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
    """The methods joined in `method`, each with its number of images; these differ by 1 at most."""
    parts = [method] if method.startswith("images:") else method.split(JOINED)
    return [(part, images // len(parts) + (i < images % len(parts))) for i, part in enumerate(parts)]


def synthesize_by(name: str, request: Request) -> CalibrationSet:
    """The images that the registered method `name` makes for `request`.

    Raises `ConfigError` where another package's method fails, or makes other images than it was asked for.
    """
    with SYNTHESIZERS.blame(name):
        made: Any = SYNTHESIZERS.get(name)(request)
    wanted = [request.images, *request.shape]
    if not isinstance(made, CalibrationSet):
        raise PluginError(f"the synthesizer {name!r} returned {type(made).__name__}", why="must be a CalibrationSet")
    if list(np.shape(made.inputs)) != wanted or np.shape(made.labels) != (request.images,):
        raise PluginError(
            f"the synthesizer {name!r} returned images {list(np.shape(made.inputs))} with "
            f"{list(np.shape(made.labels))} labels",
            why=f"must be {wanted} with one label each",
        )
    if getattr(made.inputs, "dtype", None) != np.float32 or not np.isfinite(made.inputs).all():
        raise PluginError(f"images of the synthesizer {name!r}", why="must be finite float32 values")
    return made


def settled(method: str, effort: str, recipe: Mapping[str, Mapping[str, Any]]) -> Any:
    """The settings of `method`, one of `RECIPES`, for an effort, with those that `recipe` replaces.

    Raises `ConfigError` for a setting that there is none of, and for a value that is none.
    """
    return replaced(RECIPES[method].settings(effort), recipe.get(method, {}), f"recipe {method}")


def passes_needed(
    method: str, effort: str, images: int, recipe: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> int:
    """Forward and backward passes of one image that a method needs; 0 for methods that optimise nothing."""
    list(SYNTHESIZERS)  # the modules that add to RECIPES are imported on first use
    parts = [(part, size) for part, size in shares(images, method) if part in RECIPES and size]
    return sum(RECIPES[part].passes(settled(part, effort, recipe), size) for part, size in parts)
