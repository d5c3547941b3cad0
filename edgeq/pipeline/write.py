"""The stages that write the files of a build and prove them: every op's output against the exact reference."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.cache import Result, StageCache, Workspace
from edgeq.config.targets import Target
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import InexactError
from edgeq.files import write_atomic
from edgeq.formats.base import format_of
from edgeq.formats.exactness import Exactness
from edgeq.formats.metadata import ModelMetadata
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph
from edgeq.pipeline.choices import types_of
from edgeq.pipeline.environment import RUNTIMES, Environment, environment
from edgeq.pipeline.prepare import Job
from edgeq.pipeline.usage import class_names
from edgeq.quant.input_transform import describe_raw_input

__all__ = ["VerifyInputs", "WriteInputs", "metadata_of", "verify_file", "write_files"]

VERIFIED = 32
"""Calibration images whose every op output is compared with the exact reference."""


@dataclass(frozen=True)
class WriteInputs:
    """Everything that writing reads. `weight_bits` are the most that any weight has, `io` and `weights` types as
    `edgeq.formats.base.Format.write` takes them."""

    integer: IntegerGraph
    float_graph: Graph
    target: Target
    weight_bits: int
    io: str | None
    weights: str
    about: ModelMetadata | None
    environment: Environment


@dataclass(frozen=True)
class VerifyInputs:
    """Everything that verifying reads. `artifact` is known by its bytes, `images` are float32 ``(N, C, H, W)``."""

    integer: IntegerGraph
    artifact: Path
    images: npt.NDArray[np.float32]
    target: Target
    weight_bits: int
    environment: Environment


def write_files(job: Job, integer: IntegerGraph, cache: StageCache) -> Result:
    """Run the stage: `integer` and the job's float graph as files of the target's format.

    Its value is the paths of both.
    """
    config, target, scheme = job.config, job.target, job.scheme
    io, weights = types_of(config, target, scheme)
    if integer.activation_types == {"int16"}:
        weights = config.weight_storage or "int8"
    about = metadata_of(job)
    around = environment(RUNTIMES, config.threads)
    inputs = WriteInputs(integer, job.graph, target, scheme.widest_weights, io, weights, about, around)
    suffix = format_of(target, scheme.widest_weights).suffix

    def paths(result: Result) -> tuple[Path, Path]:
        return result.files[f"model{suffix}"], result.files[f"float{suffix}"]

    return cache.run("write", inputs, _write, paths)


def _write(inputs: WriteInputs, space: Workspace) -> dict[str, Any]:
    file_format = format_of(inputs.target, inputs.weight_bits)
    with inputs.environment.applied() as made_with:
        started = time.monotonic()
        data = file_format.write(inputs.integer, inputs.io, inputs.weights, inputs.about)
        seconds = time.monotonic() - started
        write_atomic(space.folder / f"model{file_format.suffix}", data)
        write_atomic(space.folder / f"float{file_format.suffix}", file_format.write_float(inputs.float_graph))
    return {"io": inputs.io, "weights": inputs.weights, "integer_seconds": seconds, "made_with": made_with}


def metadata_of(job: Job) -> ModelMetadata | None:
    """What the file tells apps of itself; None where settings or target want it to say nothing."""
    spec, wanted = job.input_transform.spec, job.config.metadata
    if not (wanted == "yes" if wanted else job.target.metadata):
        return None
    io, _ = types_of(job.config, job.target, job.scheme)
    description = f"{spec.name}, {job.config.bits}, by edgeq"
    # One logit has no output for each of its two classes.
    labels = () if len(spec.labels) != spec.classes and spec.dense is None else class_names(spec)
    return ModelMetadata(
        spec.name,
        description,
        spec.mean,
        spec.std,
        tuple(label.replace("\n", " ") for label in labels),
        describe_raw_input(io) if io and job.input_transform.raw else "",
    )


def verify_file(job: Job, integer: IntegerGraph, artifact: Path, images: CalibrationSet, cache: StageCache) -> Result:
    """Run the stage: the file against the integers it was written from, and what its runtime makes of it.

    Raises `GateError` where the file computes other values than `edgeq verify` accepts; the file stays in the cache.
    """
    around = environment(RUNTIMES, job.config.threads)
    inputs = VerifyInputs(integer, artifact, images.inputs[:VERIFIED], job.target, job.scheme.widest_weights, around)
    result = cache.run("verify", inputs, _verify, _exactness)
    _judge(result.value, artifact)
    return result


def _exactness(result: Result) -> Exactness:
    facts = result.facts["exactness"]
    return Exactness(**{field.name: facts[field.name] for field in dataclasses.fields(Exactness)})


def _judge(exactness: Exactness, artifact: Path) -> None:
    if exactness.held:
        return
    op, differing, step = exactness.first_wrong or ("no op", 0, 0)
    allowed = ", where one step is allowed" if exactness.allowed_step else ""
    raise InexactError(
        f"the file's values are not the reference's{allowed}: first {op}, {differing:,} of whose values differ by "
        f"up to {step} steps; {exactness.values - exactness.equal:,} of {exactness.values:,} in all, "
        f"by up to {exactness.max_step}",
        hint=f"nothing was released; the file is kept as {artifact}",
    )


def _verify(inputs: VerifyInputs, space: Workspace) -> dict[str, Any]:
    file_format, data = format_of(inputs.target, inputs.weight_bits), inputs.artifact.read_bytes()
    with inputs.environment.applied() as made_with:
        exactness = file_format.verify(inputs.integer, data, inputs.images)
        census = file_format.census(data)
    return {
        "exactness": dataclasses.asdict(exactness) | {"images": len(inputs.images)},
        "census": dataclasses.asdict(census) | {"ops": census.ops, "kinds": dict(census.kinds)},
        "made_with": made_with,
    }
