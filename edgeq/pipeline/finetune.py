"""The stage between calibration and writing: a student trained, frozen, and held against what it was frozen to."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.cache import Result, StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.finetune import loop
from edgeq.finetune.precision import check_precision, training_device
from edgeq.finetune.settings import Settings
from edgeq.finetune.sources import Drawn, Source
from edgeq.finetune.student import agreement
from edgeq.graph.ir import Graph
from edgeq.pipeline.calibrate import keep_frozen, read_integers
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.pipeline.prepare import Job
from edgeq.pipeline.recipe import tuning_settings
from edgeq.quant.freeze import freeze
from edgeq.quant.observe import OBSERVERS
from edgeq.quant.quantize import decide
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import Spec
from edgeq.synth.generatorfile import load_generator
from edgeq.synth.memory import keep_freed_memory

__all__ = ["COMPARED", "FinetuneInputs", "check_tuning", "finetune_graph"]

SCORED = ("classification", "segmentation")
"""Tasks whose outputs are scores of classes along dimension 1; one logit alone is a real value."""

COMPARED = 32
"""Calibration images on which the student and the exact reference of its integers are compared."""

POINTS = 200
"""Points of each curve a report keeps."""


def check_tuning(job: Job) -> None:
    """Raise `ConfigError`, before minutes of synthesis, where this machine cannot fine-tune as the job says."""
    if job.tuning:
        check_precision(job.config.precision, training_device())


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
    specs: Mapping[str, Spec]
    observer: str
    plugins: tuple[Path, ...]
    settings: Settings
    seed: int
    generator: Path | None
    scores: bool
    device: torch.device
    environment: Environment


def finetune_graph(job: Job, images: CalibrationSet, cache: StageCache, generator: Path | None = None) -> Result:
    """Run the stage: the job's graph calibrated on `images`, trained, frozen. Its value is the IntegerGraph.

    `generator` is the file of a trained one: then ``kd`` trains on images drawn fresh from it. Resumes where an
    interrupted run stood. Raises `MeasurementError` when training diverges.
    """
    spec = job.loaded.spec
    low, high = spec.channel_range()
    inputs = FinetuneInputs(
        graph=job.graph,
        raw=job.raw,
        images=images,
        input_range=job.input_range,
        low=low,
        high=high,
        scheme=job.scheme,
        specs=job.specs,
        observer=job.config.observer,
        plugins=OBSERVERS.files(job.config.observer),
        settings=tuning_settings(job.tuning, job.config, job.graph),
        seed=job.config.seed,
        generator=generator if job.tuning == "kd" else None,
        scores=spec.task in SCORED and spec.classes > 1,
        device=training_device(),
        environment=environment(TRAINING, job.config.threads, training_device()),
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
    _, others = loop.hold_out(images)
    decided = decide(graph, others, inputs.input_range, inputs.scheme, observer=inputs.observer, specs=inputs.specs)
    low, high = torch.from_numpy(inputs.low), torch.from_numpy(inputs.high)
    job = loop.Job(
        decided.graph,
        inputs.raw,
        decided.calibration,
        images,
        low,
        high,
        settings,
        inputs.seed,
        source,
        scores=inputs.scores,
        checkpoint=space.checkpoint,
        progress=space.progress,
    )
    done = loop.finetune(job, inputs.device)
    frozen = freeze(done.graph, done.decided)
    facts = keep_frozen(frozen, graph, decided.graph, images, space)
    same = agreement(done.student, frozen.graph, images.inputs[:COMPARED])
    return facts | {
        "finetune": {
            "method": settings.method,
            "images": "drawn fresh" if source is not None else images.method,
            "device": inputs.device.type,
            "precision": settings.precision,
            **done.facts,
            "agreement": dataclasses.asdict(same),
            "curves": {name: _thin(values) for name, values in done.curves.items()},
        },
    }


def _thin(values: list[float]) -> list[float]:
    """Reduce `values` to at most `POINTS`, the means of equal stretches."""
    if len(values) <= POINTS:
        return list(values)
    edges = [round(n * len(values) / POINTS) for n in range(POINTS + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
