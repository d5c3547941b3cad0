"""What a build is known by before it begins, and what it may take the place of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.config.build import BuildConfig
from edgeq.data.evaluation import EvaluationSet
from edgeq.errors import ArtifactError, OccupiedError, WeightsError
from edgeq.fingerprint import file_sha256
from edgeq.measure.conditions import this_machine
from edgeq.model.load import checkpoint_file
from edgeq.pipeline.environment import RUNTIMES
from edgeq.pipeline.origin import origin_facts
from edgeq.pipeline.prepare import Job
from edgeq.products import MARKER
from edgeq.report.lock import inputs_lock, portable, read_lock
from edgeq.versions import package_versions, source_digest

__all__ = ["check_place", "lock_inputs"]


def lock_inputs(job: Job, evaluation: EvaluationSet | None) -> dict[str, Any]:
    """The part of the build's lock that is known before it begins. Raises `ConfigError`."""
    config, loaded = job.requested, job.loaded
    return inputs_lock(
        model=loaded.spec.name,
        weights_sha256=loaded.weights_sha256(),
        graph_sha256=job.graph.digest(),
        checkpoint=_checkpoint(config),
        evaluation=None
        if evaluation is None
        else {"name": Path(evaluation.source).name, "images": len(evaluation), "sha256": evaluation.sha256},
        config=dataclasses.asdict(config),
        recipe=job.recipe,
        target=dataclasses.asdict(job.target),
        packages=package_versions(("edgeq", *RUNTIMES)),
        code_sha256=source_digest(),
        machine=this_machine().to_json(),
        spec=origin_facts(loaded.spec, job.evaluation),
    )


def _checkpoint(config: BuildConfig) -> dict[str, str] | None:
    if config.model is None:  # a module that was handed over in Python
        return None
    path = checkpoint_file(config.model, config.weights)
    try:
        return None if path is None else {"name": path.name, "sha256": file_sha256(path)}
    except OSError as error:
        raise WeightsError(f"weights file {path} cannot be read", why=error.strerror or str(error)) from error


def check_place(job: Job, inputs: Mapping[str, Any]) -> None:
    """Raise `ArtifactError` where edgeq chose the job's folder, and another network or target has its build there.

    Two models or target files can have one name. A build is of another one if it was named otherwise and is otherwise:
    new weights of the same model take the place of old ones.
    """
    config, folder = job.requested, job.folder
    if config.output is not None:
        return
    try:
        previous = read_lock(folder / MARKER)
        settings = previous["config"]
        other_model = settings["model"] != portable(config.model) and (
            previous["model"]["weights_sha256"] != inputs["model"]["weights_sha256"]
        )
        other_target = settings["targets"] != portable(config.targets) and previous["target"] != inputs["target"]
        what = f"the model {settings['model']}" if other_model else f"the target {', '.join(settings['targets'])}"
    except (ArtifactError, LookupError, TypeError):
        return
    if other_model or other_target:
        raise OccupiedError(
            f"{folder} would be replaced",
            why=f"it holds the build of another network or target of the same name ({what})",
            hint="choose an --output of its own",
        )
