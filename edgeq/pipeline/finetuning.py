"""The stage between calibration and writing: a student trained, frozen, and held against what it was frozen to."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgeq.cache import Result, StageCache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, MeasurementError
from edgeq.files import write_atomic
from edgeq.finetune.budget import batch_for
from edgeq.finetune.loop import Job, finetune, held_out
from edgeq.finetune.precision import check_precision
from edgeq.finetune.settings import METHODS, Settings, settings_for
from edgeq.finetune.sources import Drawn, Source
from edgeq.finetune.student import agreement
from edgeq.finetune.world import ALONE, World
from edgeq.graph.ir import Graph
from edgeq.measure.layers import layer_errors
from edgeq.progress import Silent
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import EQUALIZED, equalize, rescaled
from edgeq.quant.freeze import freeze
from edgeq.synth.generatorfile import load_generator
from edgeq.synth.memory import keep_freed_memory
from edgeq.zoo.spec import ModelSpec

__all__ = ["COMPARED", "IMAGES", "check_tuning", "choose_tuning", "finetuned", "take_part", "with_images"]

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


def check_tuning(config: BuildConfig, tuning: str, graph: Graph, world: World) -> None:
    """Raise `ConfigError`, before minutes of synthesis, where `world` cannot fine-tune as `config` says."""
    if tuning:
        world.check(_settings(config, tuning, graph).batch)
        check_precision(config.precision, world.device)


def take_part(world: World) -> None:
    """What a process does that does not lead: it fine-tunes whatever it is told to, until it is told to go."""
    keep_freed_memory()
    while True:
        job: Job | None = world.tell(None)
        if job is None:
            return
        with contextlib.suppress(MeasurementError):  # the first process meets it too, and says so
            finetune(job, world)


def _settings(config: BuildConfig, tuning: str, graph: Graph) -> Settings:
    return dataclasses.replace(settings_for(tuning, config.effort, graph), precision=config.precision)


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
    world: World = ALONE,
) -> Result:
    """The stage: `graph` calibrated on `calibration`, trained by `tuning`, frozen. Leaves integer.safetensors.

    `generator` is the file of a trained one: then ``kd`` trains on images drawn fresh from it. Resumes where an
    interrupted run of as many processes stood. The first process of `world` calls this, the others `take_part`. Raises
    `MeasurementError` when training diverges.
    """
    settings = _settings(config, tuning, graph)
    trained = load_generator(generator) if generator is not None and tuning == "kd" else None
    parts: dict[str, Any] = {
        "raw": raw.digest(),
        "graph": graph.digest(),
        "calibration": calibration.digest(),
        "scheme": dataclasses.asdict(scheme),
        "observer": config.observer,
        "equalized": EQUALIZED,
        "settings": dataclasses.asdict(settings),
        "seed": config.seed,
        "fresh": trained is not None,
        "scores": spec.task in SCORED and spec.classes > 1,
        "cuda": torch.cuda.is_available(),
        "processes": world.size,
        "edgeq": version("edgeq"),
    }
    low, high = (torch.from_numpy(v) for v in spec.channel_range())
    source: Source | None = Drawn(trained.generator, trained.pixel) if trained is not None else None

    def work(folder: Path) -> dict[str, Any]:
        keep_freed_memory()
        _, others = held_out(calibration)
        even = equalize(graph, others, spec.input_range(), scheme)
        decided = calibrate(even, others, spec.input_range(), scheme=scheme, observer=config.observer)
        job = Job(
            even, raw, decided, calibration, low, high, settings, config.seed, source,
            scores=spec.task in SCORED and spec.classes > 1, checkpoint=cache.scratch("finetune", parts), progress=cache.progress,
        )  # fmt: skip
        world.tell(dataclasses.replace(job, progress=Silent()))
        done = finetune(job, world)
        frozen = freeze(done.graph, done.decided)
        write_atomic(folder / "integer.safetensors", frozen.graph.to_bytes())
        same = agreement(done.student, frozen.graph, calibration.inputs[:COMPARED])
        rows = layer_errors(even, frozen.graph, calibration.inputs[:8])
        return {
            "dead_channels": dict(frozen.dead_channels),
            "notes": list(frozen.notes),
            "equalized": len(rescaled(graph, even)),
            "layers": [dataclasses.asdict(row) for row in rows],
            "finetune": {
                "method": tuning,
                "images": "drawn fresh" if source is not None else calibration.method,
                "processes": world.size,
                "device": world.device.type,
                "precision": settings.precision,
                **done.facts,
                "agreement": dataclasses.asdict(same),
                "curves": {name: _thinned(values) for name, values in done.curves.items()},
            },
        }

    return cache.run("finetune", parts, work)


def _thinned(values: list[float]) -> list[float]:
    """At most `POINTS` of them: means of equal stretches."""
    if len(values) <= POINTS:
        return list(values)
    edges = [round(n * len(values) / POINTS) for n in range(POINTS + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
