"""The stage between calibration and writing: a student trained, frozen, and held against what it was frozen to."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.cache import Result, StageCache, Workspace
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError
from edgeq.files import write_atomic
from edgeq.finetune.budget import batch_for
from edgeq.finetune.loop import Job, finetune, held_out
from edgeq.finetune.precision import check_precision, training_device
from edgeq.finetune.settings import METHODS, Settings, settings_for
from edgeq.finetune.sources import Drawn, Source
from edgeq.finetune.student import agreement
from edgeq.graph.ir import Graph
from edgeq.measure.layers import layer_errors
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.calibrating import INTEGER, JUDGED, read_integers
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import equalize, rescaled
from edgeq.quant.freeze import freeze
from edgeq.quant.observe import OBSERVERS
from edgeq.synth.generatorfile import load_generator
from edgeq.synth.memory import keep_freed_memory

__all__ = [
    "COMPARED", "IMAGES", "FinetuneInputs", "check_tuning", "choose_tuning", "finetuned", "with_images",
]  # fmt: skip

IMAGES = 160
"""Fewest calibration images of a build that fine-tunes: a network trained on 32 learns those. A fifth only judges."""

SCORED = ("classification", "segmentation")
"""Tasks whose outputs are scores of classes along dimension 1; one logit alone is a real value."""

COMPARED = 32
"""Calibration images on which the student and the exact reference of its integers are compared."""

POINTS = 200
"""Points of each curve a report keeps."""


def choose_tuning(config: BuildConfig) -> tuple[BuildConfig, str]:
    """The settings with images and fine-tuning told apart, and the method that fine-tunes; "" for none.

    ``--method zaq`` says both at once: images that suit the network for the ranges, then ZAQ. Raises `ConfigError` for
    two fine-tunings at once.
    """
    tuning = "" if config.finetune == "none" else config.finetune
    if config.method in METHODS:
        if config.finetune not in ("none", config.method):
            raise ConfigError(
                f"--method {config.method} --finetune {config.finetune}", why="both say how to fine-tune",
                hint="name images with --method, such as gznq",
            )  # fmt: skip
        tuning, config = config.method, dataclasses.replace(config, method="auto")
    return config, tuning


def with_images(config: BuildConfig, tuning: str, graph: Graph) -> BuildConfig:
    """`config` with enough calibration images for `tuning` to learn from and to be judged by: `IMAGES`, or five batches
    of a network so large that its batches are small (and its images hold that many more places)."""
    if not tuning:
        return config
    return dataclasses.replace(config, images=max(config.images, min(IMAGES, 5 * batch_for(graph))))


def check_tuning(config: BuildConfig, tuning: str) -> None:
    """Raise `ConfigError`, before minutes of synthesis, where this machine cannot fine-tune as `config` says."""
    if tuning:
        check_precision(config.precision, training_device())


def _settings(config: BuildConfig, tuning: str, graph: Graph) -> Settings:
    return dataclasses.replace(settings_for(tuning, config.effort, graph), precision=config.precision)


@dataclass(frozen=True)
class FinetuneInputs:
    """Everything that fine-tuning reads. `graph` is optimised and `raw` still has its batch norms; `low` and `high` are
    the normalised values of pixel 0 and 255 per channel ``(C,)``. `generator` is the file of a trained one, or None.
    `plugins` is the file of an observer that is not edgeq's own. `scores`: outputs are scores of classes.
    """

    graph: Graph
    raw: Graph
    images: CalibrationSet
    input_range: tuple[float, float]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    scheme: Scheme
    observer: str
    plugins: tuple[Path, ...]
    settings: Settings
    seed: int
    generator: Path | None
    scores: bool
    device: torch.device
    environment: Environment


def finetuned(
    config: BuildConfig,
    tuning: str,
    spec: ModelSpec,
    raw: Graph,
    graph: Graph,
    calibration: CalibrationSet,
    scheme: Scheme,
    cache: StageCache,
    generator: Path | None = None,
) -> Result:
    """The stage: `graph` calibrated on `calibration`, trained by `tuning`, frozen. Its value is the IntegerGraph.

    `generator` is the file of a trained one: then ``kd`` trains on images drawn fresh from it. Resumes where an
    interrupted run stood. Raises `MeasurementError` when training diverges.
    """
    low, high = spec.channel_range()
    inputs = FinetuneInputs(
        graph=graph,
        raw=raw,
        images=calibration,
        input_range=spec.input_range(),
        low=low,
        high=high,
        scheme=scheme,
        observer=config.observer,
        plugins=OBSERVERS.files(config.observer),
        settings=_settings(config, tuning, graph),
        seed=config.seed,
        generator=generator if tuning == "kd" else None,
        scores=spec.task in SCORED and spec.classes > 1,
        device=training_device(),
        environment=environment(TRAINING, config.threads, training_device()),
    )
    return cache.run("finetune", inputs, _finetune, read_integers)


def _finetune(inputs: FinetuneInputs, space: Workspace) -> dict[str, Any]:
    keep_freed_memory()
    with inputs.environment.applied() as made_with:
        return _train(inputs, space) | {"made_with": made_with}


def _train(inputs: FinetuneInputs, space: Workspace) -> dict[str, Any]:
    graph, images, settings = inputs.graph, inputs.images, inputs.settings
    trained = load_generator(inputs.generator) if inputs.generator is not None else None
    source: Source | None = Drawn(trained.generator, trained.pixel) if trained is not None else None
    _, others = held_out(images)
    even = equalize(graph, others, inputs.input_range, inputs.scheme)
    decided = calibrate(even, others, inputs.input_range, scheme=inputs.scheme, observer=inputs.observer)
    low, high = torch.from_numpy(inputs.low), torch.from_numpy(inputs.high)
    job = Job(
        even, inputs.raw, decided, images, low, high, settings, inputs.seed, source,
        scores=inputs.scores, checkpoint=space.checkpoint, progress=space.progress,
    )  # fmt: skip
    done = finetune(job, inputs.device)
    frozen = freeze(done.graph, done.decided)
    write_atomic(space.folder / INTEGER, frozen.graph.to_bytes())
    same = agreement(done.student, frozen.graph, images.inputs[:COMPARED])
    rows = layer_errors(even, frozen.graph, images.inputs[:JUDGED])
    return {
        "dead_channels": dict(frozen.dead_channels),
        "notes": list(frozen.notes),
        "equalized": len(rescaled(graph, even)),
        "layers": [row.to_json() for row in rows],
        "finetune": {
            "method": settings.method,
            "images": "drawn fresh" if source is not None else images.method,
            "device": inputs.device.type,
            "precision": settings.precision,
            **done.facts,
            "agreement": dataclasses.asdict(same),
            "curves": {name: _thinned(values) for name, values in done.curves.items()},
        },
    }


def _thinned(values: list[float]) -> list[float]:
    """At most `POINTS` of them: means of equal stretches."""
    if len(values) <= POINTS:
        return list(values)
    edges = [round(n * len(values) / POINTS) for n in range(POINTS + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
