"""From a model to its calibration set: the part of the line that `edgeq build` and `edgeq synth` share.

Both remember the synthesis under the same key, so the images of a build are found by `synth`, and the other way round.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgeq.cache import Result, StageCache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, calibration_from_images, check_images
from edgeq.errors import ConfigError
from edgeq.files import write_atomic
from edgeq.finetune.precision import whole_float32
from edgeq.finetune.settings import METHODS
from edgeq.finetune.world import ALONE, World
from edgeq.graph.capture import capture, capture_program
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm
from edgeq.synth import Request, synthesizer_of
from edgeq.synth.base import JOINED
from edgeq.synth.memory import keep_freed_memory
from edgeq.zoo.load import LoadedModel, load_model

__all__ = ["captured", "check_method", "choose_method", "loaded_model", "synthesize"]


def loaded_model(config: BuildConfig) -> LoadedModel:
    """The network the settings name, with what they say of its input."""
    return load_model(
        config.model or "", weights=config.weights, input_shape=config.input_shape, mean=config.mean, std=config.std
    )


def check_method(asked: str) -> None:
    """Raise `ConfigError` for a method or images nobody has, before minutes are spent on the network."""
    if asked.startswith("images:"):
        check_images(asked.removeprefix("images:"))
        return
    if asked == "auto":
        return
    if asked in METHODS:
        raise ConfigError(
            f"--method {asked}", why="it trains the integer network on images and makes none to keep",
            hint=f"edgeq build --method {asked}; for images, --method gznq or zs-cgan",
        )  # fmt: skip
    if trained := [part for part in asked.split(JOINED) if part in METHODS]:
        raise ConfigError(
            f"--method {asked}", why=f"{trained[0]} trains the integer network on images and makes none",
            hint=f"join what makes images, and edgeq build --finetune {trained[0]}",
        )  # fmt: skip
    synthesizer_of(asked)


def choose_method(asked: str, raw: Graph) -> tuple[str, str]:
    """The synthesizer to use, and why: what was asked for, or for ``auto`` what suits the network."""
    if asked != "auto":
        return asked, "as asked"
    norms = sum(1 for _ in raw.of_kind(BatchNorm))
    if norms:
        return "gznq", f"auto: the network has {norms} batch norms whose statistics images can match"
    return "inversion", "auto: no batch norm (absent or folded) to match, so classes are drawn out of random shapes"


def captured(loaded: LoadedModel) -> Graph:
    """The network as a graph that still holds its batch norms."""
    if isinstance(loaded.module, torch.nn.Module):
        return capture(loaded.module, loaded.spec.input_shape, loaded.spec.name)
    return capture_program(loaded.module, loaded.spec.name)


def synthesize(
    config: BuildConfig,
    loaded: LoadedModel,
    raw: Graph,
    method: str,
    cache: StageCache,
    *,
    world: World = ALONE,
    forbidden: EvaluationSet | None = None,
) -> tuple[Result, CalibrationSet]:
    """The stage: images by `method` (never ``auto``), from the cache where an equal run has finished before.

    Reads `images`, `seed` and `effort` of `config`. `forbidden` are images that measure, which ``images:PATH`` must not
    hold. An interrupted synthesis leaves its finished batches and continues with the same bytes. Methods that go
    through the network often do so on the device of `world`'s first process, the only one that calls this.
    """
    spec = loaded.spec
    parts: dict[str, Any] = {"method": method, "images": config.images, "seed": config.seed, "edgeq": version("edgeq")}
    given: CalibrationSet | None = None
    if method.startswith("images:"):
        path = method.removeprefix("images:")
        given = calibration_from_images(path, spec, config.images, config.seed, forbidden=forbidden)
        parts["pictures"] = given.digest()
    else:
        synthesizer = synthesizer_of(method)
        low, high = spec.channel_range()
        parts |= {"graph": raw.digest(), "effort": config.effort, "range": [low.tolist(), high.tolist()]}
        if world.device.type == "cuda":
            parts["cuda"] = True  # which sums in another order

    def work(folder: Path) -> dict[str, Any]:
        keep_freed_memory()
        made = given
        if made is None:
            request = Request(
                graph=raw,
                low=low,
                high=high,
                classes=spec.classes if spec.task == "classification" and spec.classes > 1 else 0,  # one logit: no pull
                images=config.images,
                seed=config.seed,
                effort=config.effort,
                checkpoint=cache.scratch("synthesize", parts),
                progress=cache.progress,
                products=folder,
                device=world.device,
            )
            with whole_float32():
                made = synthesizer(request)
        write_atomic(folder / "calibration.npz", made.to_bytes())
        return {"images": len(made), "sha256": made.digest(), "device": world.device.type}

    result = cache.run("synthesize", parts, work)
    return result, CalibrationSet.load(result.files["calibration.npz"])
