"""build(): the stages in order, checkpoint to report, each remembered by the hash of what it read.

    capture -> synthesize -> calibrate [-> finetune] -> write -> verify -> measure -> report

Data moves down this page. A stage is a function of what stands above it and never reaches back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgeq.cache import Result, StageCache
from edgeq.config.build import BuildConfig
from edgeq.config.targets import WEIGHT_TYPES, Target, load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, load_images
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.export.about import About
from edgeq.files import check_replaceable, write_atomic
from edgeq.finetune.budget import minutes_for
from edgeq.finetune.settings import settings_for
from edgeq.formats import Format, format_of
from edgeq.graph.capture import unsupported_calls
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.accuracy import Accuracy
from edgeq.measure.conditions import this_machine
from edgeq.measure.latency import measure_latency
from edgeq.measure.layers import layer_errors
from edgeq.measure.simulated import storable
from edgeq.measure.tasks import Answers, Everything, compare_answers, everything, measure_answers
from edgeq.pipeline.artifact import Made, report_of, write_folder
from edgeq.pipeline.finetuning import choose_tuning, finetuned, with_images
from edgeq.pipeline.synthesis import captured, check_method, choose_method, synthesize
from edgeq.progress import Progress, Silent
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import specify
from edgeq.synth import passes_needed
from edgeq.synth.generatorfile import GENERATOR
from edgeq.zoo.load import LoadedModel, load_model

__all__ = ["build", "choose_method", "plan"]

VERIFIED = 32
"""Calibration images whose every op output is compared with the exact reference."""

SIMULATED = 500
"""Evaluation images, evenly spaced, that the exact reference answers where no runtime can: it is slow."""

STAGES = ("capture", "synthesize", "calibrate", "write", "verify", "measure")


@dataclass(frozen=True)
class _Job:
    """What every stage may read."""

    config: BuildConfig
    target: Target
    format: Format
    scheme: Scheme
    loaded: LoadedModel
    raw: Graph
    graph: Graph
    evaluation: EvaluationSet | None
    cache: StageCache
    progress: Progress


def build(config: BuildConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Build one model for one target and write the artifact folder. Returns the report as written to report.json.

    Raises `EdgeqError` for everything foreseen; whatever happens, the output folder is the previous one or the new one.
    """
    progress = progress or Silent()
    torch.manual_seed(config.seed)
    asked, (config, tuning) = config, choose_tuning(config)
    check_method(config.method)
    target = load_target(config.target)
    scheme = _scheme(config, target)
    loaded = load_model(
        config.model or "", weights=config.weights, input_shape=config.input_shape, mean=config.mean, std=config.std
    )
    check_replaceable(config.output_folder(loaded.spec.name))
    started = time.monotonic()
    progress.stage("capture")
    raw = captured(loaded)
    graph = optimize(raw)
    specify(graph, loaded.spec.input_range(), scheme)  # refuses, before minutes of synthesis, what cannot be
    config = with_images(config, tuning, graph)
    seconds = {"capture": time.monotonic() - started}
    progress.done("capture", seconds["capture"], cached=False)
    where = config.evaluation or loaded.spec.evaluation
    evaluation = load_images(where, loaded.spec, config.eval_limit) if where else None
    forced = frozenset(STAGES) if "all" in config.force else frozenset(config.force)
    cache = StageCache(config.cache, progress, forced)
    written_as = format_of(target, scheme.widest_weights)
    job = _Job(config, target, written_as, scheme, loaded, raw, graph, evaluation, cache, progress)

    method, why = choose_method(config.method, raw)
    synthesized, calibration = synthesize(config, loaded, raw, method, cache, forbidden=evaluation)
    calibrated, integer = _calibrate(job, calibration)
    facts = dict(calibrated.facts)
    if tuning:
        drawn_by = synthesized.files.get(GENERATOR)
        tuned = finetuned(config, tuning, loaded.spec, raw, graph, calibration, scheme, cache, drawn_by)
        integer = IntegerGraph.load(tuned.files["integer.safetensors"])
        facts |= tuned.facts
        seconds["finetune"] = tuned.seconds
    stored = storable(integer)
    written = _write(job, stored)
    artifact, baseline = (written.files[f"{name}{job.format.suffix}"] for name in ("model", "float"))
    verified = _verify(job, stored, artifact, calibration)
    measured = _measure(job, integer, artifact, baseline)
    for name, result in zip(STAGES[1:], (synthesized, calibrated, written, verified, measured), strict=True):
        seconds[name] = result.seconds
    made = Made(
        config=asked,
        target=target,
        loaded=loaded,
        graph=graph,
        method=method,
        method_reason=why,
        calibration=calibration,
        integer=integer,
        artifact=artifact,
        baseline=baseline,
        facts={**facts, "weight_storage": written.facts["weights"], **verified.facts, **measured.facts},
        seconds=seconds,
    )
    report = report_of(made)
    write_folder(made, report, config.output_folder(loaded.spec.name))
    return report


def _scheme(config: BuildConfig, target: Target) -> Scheme:
    """Bits as asked, as far as the target's kernels take them. Refused before any work: what no file could do."""
    if (config.weight_storage or "int8") not in WEIGHT_TYPES[target.format]:
        raise ConfigError(
            f"--weight-storage {config.weight_storage} for {target.name}",
            why=f"{target.runtime} runs no convolution with such weights",
            hint="leave it out, or build for a tflite target",
        )
    widest = target.bits_of_weights(vnni=this_machine().vnni)
    scheme = Scheme.of(config.bits, all_layers=config.all_layers, widest=widest, layers=config.layer_bits)
    if scheme.activation_bits == 16:
        _check_wide(config, target)
    elif config.io == "int16":
        raise ConfigError(f"--io int16 with {config.bits}", why="its activations have 8 bits", hint="--bits w8a16")
    return scheme


def _check_wide(config: BuildConfig, target: Target) -> None:
    """Refuse what 16-bit activations do not go with."""
    if target.format != "tflite":
        raise UnsupportedError(
            f"16-bit activations for {target.name}",
            why=f"{target.runtime} has no 16-bit integer convolution and would compute all of it in float",
            hint="build for a tflite target, or use a8",
        )
    if config.io in ("int8", "uint8"):
        raise ConfigError(f"--io {config.io} with {config.bits}", why="8 bits at the ends would waste those between",
                          hint="int16 (the default) or float32")  # fmt: skip
    if config.weight_storage == "int4":
        raise ConfigError(f"--weight-storage int4 with {config.bits}", why="TFLite's 16-bit kernels take int8 weights")


def _types(job: _Job) -> tuple[str, str]:
    """The type of inputs and outputs, and the one weights of four bits or fewer are stored in."""
    io, weights = job.config.io or job.target.io, job.config.weight_storage or job.target.narrow_weights
    if job.scheme.activation_bits == 16:
        return ("float32" if io == "float32" else "int16"), "int8"
    return io, weights


def _calibrate(job: _Job, calibration: CalibrationSet) -> tuple[Result, IntegerGraph]:
    input_range = job.loaded.spec.input_range()
    parts = {
        "graph": job.graph.digest(),
        "calibration": calibration.digest(),
        "range": input_range,
        "scheme": dataclasses.asdict(job.scheme),
        "observer": job.config.observer,
        "edgeq": version("edgeq"),
    }

    def work(folder: Path) -> dict[str, Any]:
        decided = calibrate(job.graph, calibration, input_range, scheme=job.scheme, observer=job.config.observer)
        frozen = freeze(job.graph, decided)
        write_atomic(folder / "integer.safetensors", frozen.graph.to_bytes())
        rows = layer_errors(job.graph, frozen.graph, calibration.inputs[:8])
        return {"dead_channels": dict(frozen.dead_channels), "layers": [dataclasses.asdict(row) for row in rows]}

    result = job.cache.run("calibrate", parts, work)
    return result, IntegerGraph.load(result.files["integer.safetensors"])


def _write(job: _Job, integer: IntegerGraph) -> Result:
    io, weights = _types(job)
    told = job.config.metadata == "yes" if job.config.metadata else job.target.metadata
    about = _about(job) if told else None
    parts = {
        "integer": integer.digest(),
        "float": job.graph.digest(),
        "target": dataclasses.asdict(job.target),
        "io": io,
        "weights": weights,
        "about": dataclasses.asdict(about) if about else None,
        "edgeq": version("edgeq"),
    }

    def work(folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        data = job.format.write(integer, io, weights, about)
        seconds = time.monotonic() - started
        write_atomic(folder / f"model{job.format.suffix}", data)
        write_atomic(folder / f"float{job.format.suffix}", job.format.write_float(job.graph))
        return {"io": io, "weights": weights, "integer_seconds": seconds}

    return job.cache.run("write", parts, work)


def _about(job: _Job) -> About:
    spec = job.loaded.spec
    return About(spec.name, f"{spec.name}, {job.config.bits}, by edgeq", spec.mean, spec.std, spec.labels)


def _verify(job: _Job, integer: IntegerGraph, artifact: Path, calibration: CalibrationSet) -> Result:
    data = artifact.read_bytes()
    inputs = calibration.inputs[:VERIFIED]
    parts = {
        "integer": integer.digest(),
        "artifact": _sha256(data),
        "inputs": calibration.digest(),
        "n": len(inputs),
        "runtimes": _runtimes(),
    }

    def work(folder: Path) -> dict[str, Any]:
        exactness = job.format.verify(integer, data, inputs)
        census = job.format.census(data)
        return {
            "exactness": dataclasses.asdict(exactness) | {"images": len(inputs)},
            "census": dataclasses.asdict(census) | {"ops": census.ops, "kinds": dict(census.kinds)},
        }

    return job.cache.run("verify", parts, work)


def _measure(job: _Job, integer: IntegerGraph, artifact: Path, baseline: Path) -> Result:
    threads = job.config.threads or job.target.threads
    machine = this_machine()
    parts = {
        "artifact": _sha256(artifact.read_bytes()),
        "simulated": integer.digest() if integer.narrow() else None,
        "float": _sha256(baseline.read_bytes()),
        "evaluation": job.evaluation.sha256 if job.evaluation else None,
        "weights": job.loaded.weights_sha256(),
        "target": job.target.name,
        "threads": threads,
        "machine": machine.to_json(),
        "runtimes": _runtimes(),
    }

    def work(folder: Path) -> dict[str, Any]:
        facts: dict[str, Any] = {"accuracy": None}
        session = job.format.open(artifact, threads)
        narrow = integer.narrow()
        if job.evaluation is not None:
            images = job.evaluation.part(SIMULATED) if narrow else job.evaluation
            module = (
                job.loaded.module if isinstance(job.loaded.module, torch.nn.Module) else GraphModule(job.raw).eval()
            )
            before = _answers(job, everything(module), images, "float network")
            after = _answers(job, everything(session), images, session.runtime)
            if narrow:
                facts["simulated"] = {"values": len(narrow), "images": len(images), "file_score": after.score}
                after = _answers(job, everything(integer), images, "exact reference")
            facts["accuracy"] = compare_answers(before, after) | {"images": images.source, "sha256": images.sha256}
        elif narrow:
            facts["simulated"] = {"values": len(narrow)}
        sample = torch.zeros(1, *job.loaded.spec.input_shape).numpy()
        facts["latency"] = measure_latency(job.format.open(baseline, threads), session, sample).to_json()
        return facts

    return job.cache.run("measure", parts, work)


def _answers(job: _Job, run: Everything, images: EvaluationSet, whose: str) -> Accuracy | Answers:
    def report(done: int) -> None:
        job.progress.step(done, len(images), whose)

    return measure_answers(run, images.batches(job.loaded.spec), job.loaded.spec, report)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _runtimes() -> dict[str, str]:
    return {name: version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")}


def plan(config: BuildConfig) -> dict[str, Any]:
    """What `build` would do, without doing it: stages, shapes, parameters, MACs, unsupported ops, estimated seconds."""
    config, tuning = choose_tuning(config)
    check_method(config.method)
    target = load_target(config.target)
    scheme = _scheme(config, target)
    loaded = load_model(
        config.model or "", weights=config.weights, input_shape=config.input_shape, mean=config.mean, std=config.std
    )
    refused = unsupported_calls(loaded.module, loaded.spec.input_shape, loaded.spec.name)
    facts: dict[str, Any] = {
        "model": loaded.spec.name,
        "target": target.name,
        "input": list(loaded.spec.input_shape),
        "unsupported": [{"op": e.what, "where": e.where, "hint": e.hint} for e in refused],
    }
    if refused:
        return facts
    raw = captured(loaded)
    graph = optimize(raw)
    specify(graph, loaded.spec.input_range(), scheme)  # refuses, before minutes of synthesis, what cannot be
    config = with_images(config, tuning, graph)
    method, why = choose_method(config.method, raw)
    if tuning:
        settings = settings_for(tuning, config.effort, graph)
        minutes = minutes_for(graph, tuning, settings.steps)
        facts["finetune"] = {"method": tuning, "steps": settings.steps, "batch": settings.batch, "minutes": minutes}
    return facts | {
        "method": method,
        "why": why,
        "parameters": graph.parameters(),
        "macs": graph.macs(),
        "ops": len(graph.nodes),
        "output": [list(graph.shapes[name]) for name in graph.outputs],
        "stages": [*STAGES[:3], *(["finetune"] if tuning else []), *STAGES[3:]],
        "estimated_seconds": _estimate(config, raw, method),
        "layers": [
            {"name": n.name, "op": type(n.op).__name__, "output": list(graph.shapes[n.name])} for n in graph.nodes
        ],
    }


def _estimate(config: BuildConfig, raw: Graph, method: str) -> float:
    """Seconds of synthesis, from timing one forward and backward pass of two images here and now."""
    rounds = passes_needed(method, config.effort, config.images)
    if rounds == 0:
        return 0.0
    module = GraphModule(raw).eval()
    images = torch.zeros(2, *raw.shapes[raw.inputs[0]][1:], requires_grad=True)
    module(images).sum().backward()
    started = time.monotonic()
    module(images).sum().backward()
    return round((time.monotonic() - started) / 2 * rounds, 1)
