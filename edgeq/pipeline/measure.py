"""The stage that measures what was built: accuracy and agreement beside the float network, latency beside its file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgeq.cache import Result, StageCache, Workspace
from edgeq.config.formats import FORMATS
from edgeq.config.targets import Target
from edgeq.data.evaluation import EvaluationSet
from edgeq.device import job as device_job
from edgeq.device.runners.base import Setup
from edgeq.device.runners.python import agent_digest
from edgeq.files import write_atomic
from edgeq.formats.base import format_of
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.accuracy import Accuracy
from edgeq.measure.answers import ANSWERS
from edgeq.measure.conditions import Machine, this_machine
from edgeq.measure.latency import host_section
from edgeq.measure.per_image import answers_of
from edgeq.measure.tasks import (
    Measured,
    Predictions,
    Predictor,
    compare_predictions,
    make_predictor,
    measure_predictions,
)
from edgeq.model.load import LoadedModel
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.environment import RUNTIMES, Environment, environment
from edgeq.pipeline.prepare import Job
from edgeq.progress import Progress

__all__ = ["FloatNetwork", "MeasureInputs", "measure_files"]

SIMULATED = 500
"""Evaluation images, evenly spaced, that the exact reference answers where no runtime can: it is slow."""


@dataclass(frozen=True)
class FloatNetwork:
    """The network as its user brought it. A module is known by what was captured of it and by its weights' hash."""

    module: torch.nn.Module
    graph: Graph
    weights_sha256: str

    @classmethod
    def of(cls, loaded: LoadedModel, raw: Graph) -> FloatNetwork:
        """A module as it is; an exported program as the graph that was captured of it."""
        module = loaded.module
        whole = module if isinstance(module, torch.nn.Module) else GraphModule(raw).eval()
        return cls(whole, raw, loaded.weights_sha256())

    def __fingerprint__(self) -> tuple[Graph, str]:
        return self.graph, self.weights_sha256


@dataclass(frozen=True)
class MeasureInputs:
    """Everything that measuring reads. `simulated` are the integers the exact reference computes, where the file cannot
    say them. `network_spec` says how the float network takes images and what its outputs mean, `file_spec` how the file
    takes them. `threads` are the runtimes'. `machine` is the one whose latency it is, and `agent` the digest of
    what times files there.
    """

    artifact: Path
    baseline: Path
    simulated: IntegerGraph | None
    network: FloatNetwork
    network_spec: ModelSpec
    file_spec: ModelSpec
    evaluation: EvaluationSet | None
    target: Target
    weight_bits: int
    threads: int
    machine: Machine
    agent: str
    environment: Environment


def measure_files(
    job: Job,
    integer: IntegerGraph,
    files: tuple[Path, Path],
    evaluation: EvaluationSet | None,
    cache: StageCache,
) -> Result:
    """Run the stage: `files` are the integer model and the float one, `integer` what the former was meant to be."""
    inputs = MeasureInputs(
        *files,
        simulated=integer if integer.narrow() else None,
        network=FloatNetwork.of(job.loaded, job.raw),
        network_spec=_anywhere(job.input_transform.network),
        file_spec=_anywhere(job.input_transform.spec),
        evaluation=evaluation and dataclasses.replace(evaluation, source=Path(evaluation.source).name),
        target=job.target,
        weight_bits=job.scheme.widest_weights,
        threads=job.config.bench_threads or job.target.threads,
        machine=this_machine(),
        agent=agent_digest(),
        environment=environment(RUNTIMES, job.config.threads),
    )
    return cache.run("measure", inputs, _measure)


def _anywhere(spec: ModelSpec) -> ModelSpec:
    """`spec` without the place of its images: they are read before, and known by their content."""
    return dataclasses.replace(spec, evaluation=None)


def _measure(inputs: MeasureInputs, space: Workspace) -> dict[str, Any]:
    file_format = format_of(inputs.target, inputs.weight_bits)
    facts: dict[str, Any] = {"accuracy": None}
    with inputs.environment.applied() as made_with:
        session = file_format.open(inputs.artifact, torch.get_num_threads(), timed=False)
        if inputs.evaluation is not None:
            whole, exact = inputs.evaluation, inputs.simulated
            images = whole if exact is None else whole.part(SIMULATED)
            answer = _Answering(images, space.progress)
            before = answer(make_predictor(inputs.network.module), inputs.network_spec, "float network")
            after = answer(make_predictor(session), inputs.file_spec, session.runtime)
            if exact is not None:
                score = {"file_score": after.score} if isinstance(after, Accuracy | Predictions) else {}
                facts["simulated"] = {"values": len(exact.narrow()), "images": len(images)} | score
                after = answer(make_predictor(exact), inputs.file_spec, "exact reference")
            if (answers := answers_of(before, after, images.sha256)) is not None:
                write_atomic(space.folder / ANSWERS, answers.to_bytes())
            about = {"images": images.source, "sha256": images.sha256}
            for name, section in compare_predictions(before, after, inputs.network_spec.labels).items():
                facts[name] = section and section | about
        elif inputs.simulated is not None:
            facts["simulated"] = {"values": len(inputs.simulated.narrow())}
        options = dict(FORMATS.get(inputs.target.format).session) if inputs.target.activations == "int8" else {}
        setup = Setup(
            "tflite-runtime" if session.runtime.startswith("tflite-runtime") else inputs.target.runtime,
            inputs.target.kernels,
            inputs.threads,
            options | dict(inputs.target.session),
        )
        timed = device_job.bench_here(inputs.artifact, inputs.baseline, setup)
        facts["latency"] = host_section(timed, inputs.machine)
    return facts | {"made_with": made_with}


@dataclass(frozen=True)
class _Answering:
    """Answers of a network to `images`, with progress."""

    images: EvaluationSet
    progress: Progress

    def __call__(self, run: Predictor, spec: ModelSpec, whose: str) -> Measured:
        def report(done: int) -> None:
            self.progress.step(done, len(self.images), whose)

        return measure_predictions(run, self.images.batches(spec), spec, report, f"the {whose}")
