"""Run one file or build over labelled images, on one device and on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeq.data.evaluation import load_images
from edgeq.data.stated import with_stated_task
from edgeq.device.open import full_name, open_device
from edgeq.errors import ConfigError, ImagesError
from edgeq.model.load import load_model
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.ondevice import eval_on, find_artifact, input_spec, setup_for
from edgeq.pipeline.origin import read_origin

__all__ = ["evaluate_artifact", "prepare_evaluation"]


def evaluate_artifact(
    path: Path,
    device: str,
    *,
    data: str | None = None,
    model: str | None = None,
    raw: bool = False,
    runtime: str | None = None,
    limit: int | None = None,
    threads: int = 1,
    timeout: float = 3600.0,
    wait: float = 0.0,
    program: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the build or file at `path` on `device` and here. Returns what ``edgeq eval --json`` prints.

    `data` and `model` are as in `prepare_evaluation`. `raw`: the file takes pixels as they are. `limit` takes that many
    images, evenly spaced. The device may take `timeout` seconds, and `wait` seconds are spent waiting for a busy one.
    `program` is Android's runner; `say` hears what begins. Raises `EdgeqError`.
    """
    artifact = find_artifact(path)
    spec, where = prepare_evaluation(path, model, data)
    spec = input_spec(artifact, spec, raw)
    images = load_images(where, spec, limit)
    setup = setup_for(artifact, runtime, threads, program)
    name = full_name(device)
    say(f"{artifact.name}: {len(images)} images on {name}")
    why = f"evaluating {artifact.name}"
    with open_device(name, runtime=setup.runtime, patience=wait, why=why, say=say) as opened:
        return {**eval_on(opened, artifact, setup, spec, images, timeout=timeout), "device": name}


def prepare_evaluation(path: Path, model: str | None, data: str | None) -> tuple[ModelSpec, str]:
    """How images become the input of what is at `path`, and where labelled images are.

    `model` is a MODEL whose specification counts; without it, the folder of a build says. `data` names the images,
    without it they are those of the model or the build. Only what the user named is imported. Raises `ConfigError`.
    """
    if model:
        spec = load_model(model).spec
        where = data or spec.evaluation
        if not where:
            raise ImagesError("no labelled images", hint="--data test.npz")
        return with_stated_task(spec, where), where
    origin = read_origin(path) if path.is_dir() else None
    if origin is None:
        raise ConfigError(f"{path} does not say how its images are prepared", hint="name the model: --model model.toml")
    where = data or origin.images(path)
    return with_stated_task(origin.spec, where), where
