"""Networks: by name as the command line takes them, or as modules that exist in Python."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgeq.api.arguments import choice, count, expect, names, optional_text, path
from edgeq.api.options import parse_option, settings
from edgeq.config.build import BuildConfig
from edgeq.config.tasks import KINDS
from edgeq.graph.ir import Graph
from edgeq.model.load import LoadedModel, load_model, wrap_module
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, Embedding, Regression, Segmentation, Task
from edgeq.pipeline.prepare import capture_model

__all__ = ["Model", "load", "trace"]


@dataclass(frozen=True)
class Model:
    """A float network that edgeq can read, with what is known of its input and outputs.

    `load` and `trace` make it. `given` holds what `load` was told, for the settings of a build; it is empty for a
    module that was traced. ``print(model)`` shows the captured graph.
    """

    loaded: LoadedModel
    given: Mapping[str, Any]

    @property
    def spec(self) -> ModelSpec:
        """Name, input shape, mean and std, task, classes and labels."""
        return self.loaded.spec

    @functools.cached_property
    def graph(self) -> Graph:
        """The network as captured, with its batch norms. Raises `UnsupportedError` for what edgeq does not know."""
        return capture_model(self.loaded)

    def __str__(self) -> str:
        return str(self.graph)


def load(
    ref: str | Path,
    *,
    weights: str | Path | None = None,
    input_shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    task: str | None = None,
) -> Model:
    """Load a network by name, as the command line's MODEL.

    `ref` is a name in models/, ``torchvision:NAME``, ``timm:NAME``, a model.toml or its folder, ``file.py:factory``,
    ``package.module:factory`` or a ``.pt2``. `weights` is a checkpoint, ``FILE:KEY`` of one with several, or
    ``random``. `input_shape` is ``(C, H, W)``; `mean` and `std` are per channel, on the 0..1 scale of pixels. `task` is
    ``classification``, ``segmentation``, ``detection``, ``regression`` or ``embedding``, where the model does not say
    or says otherwise. Raises `ConfigError`, `UnsupportedError`.

    >>> model = edgeq.load("torchvision:mobilenet_v2", weights="mine.pth")
    """
    given = {"weights": weights, "input_shape": input_shape, "mean": mean, "std": std, "task": task}
    expect(ref, (str, Path), "ref", "must be the name of a model, or a path", "edgeq.trace takes a module")
    path(ref, "ref")  # for what no file system could hold
    config = settings({"model": ref, **given}).config
    loaded = load_model(
        str(ref),
        weights=config.weights,
        input_shape=config.input_shape,
        mean=config.mean,
        std=config.std,
        task=config.task,
    )
    return Model(loaded, {"model": str(ref)} | {name: value for name, value in given.items() if value is not None})


def trace(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: int = 0,
    labels: Sequence[str] = (),
    task: Task | str | None = None,
    name: str | None = None,
) -> Model:
    """Take a network that exists in Python. `module` is copied, and the copy brought to eval mode, float32 and the CPU.

    `input_shape` is one image, ``(C, H, W)``. `mean` and `std` are per channel, on the 0..1 scale of pixels; without
    them ImageNet's are assumed, and reports say so. `classes` is checked where it is given; `labels` names them. `task`
    is ``"regression"``, ``"embedding"``, or a `Regression`, `Embedding`, `Segmentation` or `Detection` of
    `edgeq.model.tasks`; without it the task is assumed from the outputs, and reports say so. `name` names folders and
    files; by default it is the class of `module`. Raises `ConfigError`, `UnsupportedError`.

    >>> model = edgeq.trace(network, (3, 224, 224), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), classes=10)
    """
    shape = parse_option(BuildConfig, "input_shape", input_shape)
    expect(shape, tuple, "input_shape", "must be (C, H, W) such as (3, 224, 224)")
    if task is not None:
        must = f"must be one of {', '.join(KINDS)}, or a task of edgeq.model.tasks such as Detection"
        expect(task, (str, Regression, Embedding, Segmentation, Detection), "task", must)
        task = choice(task, "task", KINDS) if isinstance(task, str) else task
    loaded = wrap_module(
        module,
        optional_text(name, "name") or type(module).__name__.lower(),
        shape,
        mean=parse_option(BuildConfig, "mean", mean),
        std=parse_option(BuildConfig, "std", std),
        classes=count(classes, "classes", least=0),
        labels=names(labels, "labels"),
        task=task,
    )
    return Model(loaded, {})
