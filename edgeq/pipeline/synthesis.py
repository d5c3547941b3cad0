"""From a model to its calibration set: the part of the line that `edgeq build` and `edgeq synth` share.

Both remember the synthesis under the same key, so the images of a build are found by `synth`, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.cache import Result, StageCache, Workspace
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, calibration_from_images
from edgeq.errors import ArtifactError
from edgeq.files import write_atomic
from edgeq.finetune.precision import training_device, whole_float32
from edgeq.graph.ir import Graph
from edgeq.model.load import LoadedModel
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.pipeline.recipe import Tables, synthesis_recipe
from edgeq.synth import SYNTHESIZERS, Request, synthesizer_of
from edgeq.synth.base import JOINED
from edgeq.synth.memory import keep_freed_memory

__all__ = ["PicturesInputs", "SynthesisInputs", "synthesize"]

CALIBRATION = "calibration.npz"
"""The file of a CalibrationSet, in the stage's result and in a build's folder."""


@dataclass(frozen=True)
class SynthesisInputs:
    """Everything that a synthesis reads. `graph` still holds its batch norms; `low` and `high` are the normalised
    values of pixel 0 and 255 per channel ``(C,)``; `classes` is 0 for what is no classifier, and `values` says whether
    its outputs are real values. `plugins` are the files of
    methods that are not edgeq's own, known by their content.
    """

    graph: Graph
    method: str
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    classes: int
    images: int
    seed: int
    effort: str
    recipe: Tables
    device: torch.device
    plugins: tuple[Path, ...]
    environment: Environment
    values: bool = False


@dataclass(frozen=True)
class PicturesInputs:
    """Everything that the stage reads where the user's own pictures calibrate: the pictures, chosen and normalised."""

    pictures: CalibrationSet
    environment: Environment


def synthesize(
    config: BuildConfig,
    loaded: LoadedModel,
    raw: Graph,
    method: str,
    cache: StageCache,
    *,
    forbidden: EvaluationSet | None = None,
) -> tuple[Result, CalibrationSet]:
    """The stage: images by `method` (never ``auto``), from the cache where an equal run has finished before.

    Reads `images`, `seed`, `effort`, `recipe` and `threads` of `config`. `forbidden` are images that measure, which
    ``images:PATH`` must not hold. An interrupted synthesis leaves its finished batches and continues with the same
    bytes. Methods that go through the network often do so on `training_device`.
    """
    spec = loaded.spec
    around = environment(TRAINING, config.threads, training_device())
    if method.startswith("images:"):
        path = method.removeprefix("images:")
        given = calibration_from_images(path, spec, config.images, config.seed, forbidden=forbidden)
        # Decoded above and copied below: no processor, thread or GPU has a part in it.
        result = cache.run("synthesize", PicturesInputs(given, around), _keep_pictures, _read_images)
        return result, result.value
    synthesizer_of(method)  # refuses what there is none of
    low, high = spec.channel_range()
    inputs = SynthesisInputs(
        graph=raw,
        method=method,
        low=low,
        high=high,
        classes=spec.classes if spec.task == "classification" and spec.classes > 1 else 0,  # one logit: no pull
        images=config.images,
        seed=config.seed,
        effort=config.effort,
        recipe=synthesis_recipe(method, config),
        device=training_device(),
        plugins=_plugins(method),
        environment=around,
        values=spec.task == "regression",  # varied answers cost embeddings a little of their cosine
    )
    result = cache.run("synthesize", inputs, _synthesize, _read_images)
    return result, result.value


def _synthesize(inputs: SynthesisInputs, space: Workspace) -> dict[str, Any]:
    keep_freed_memory()
    request = Request(
        graph=inputs.graph,
        low=inputs.low,
        high=inputs.high,
        classes=inputs.classes,
        images=inputs.images,
        seed=inputs.seed,
        effort=inputs.effort,
        recipe=inputs.recipe,
        checkpoint=space.checkpoint,
        progress=space.progress,
        products=space.folder,
        device=inputs.device,
        values=inputs.values,
    )
    with inputs.environment.applied() as made_with, whole_float32():
        calibration = synthesizer_of(inputs.method)(request)
    return _keep(calibration, space) | {"device": inputs.device.type, "made_with": made_with}


def _keep_pictures(inputs: PicturesInputs, space: Workspace) -> dict[str, Any]:
    with inputs.environment.applied() as made_with:
        return _keep(inputs.pictures, space) | {"device": "cpu", "made_with": made_with}


def _keep(calibration: CalibrationSet, space: Workspace) -> dict[str, Any]:
    write_atomic(space.folder / CALIBRATION, calibration.to_bytes())
    return {"images": len(calibration), "sha256": calibration.digest()}


def _read_images(result: Result) -> CalibrationSet:
    calibration = CalibrationSet.load(result.files[CALIBRATION])
    if calibration.digest() != result.facts["sha256"]:
        raise ArtifactError("the calibration set is another than the stage made")
    return calibration


def _plugins(method: str) -> tuple[Path, ...]:
    """Source files of the methods joined in `method` that others registered."""
    return tuple(path for part in method.split(JOINED) for path in SYNTHESIZERS.files(part))
