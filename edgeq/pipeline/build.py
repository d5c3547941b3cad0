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
from edgeq.config.targets import Target, load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, check_images, load_images
from edgeq.export.about import About
from edgeq.files import check_replaceable, write_atomic
from edgeq.finetune.budget import minutes_for
from edgeq.finetune.settings import settings_for
from edgeq.finetune.world import ALONE, World
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
from edgeq.pipeline.choices import intake_of, scheme_of, types_of
from edgeq.pipeline.estimate import estimate
from edgeq.pipeline.finetuning import check_tuning, choose_tuning, finetuned, with_images
from edgeq.pipeline.synthesis import captured, check_method, choose_method, loaded_model, synthesize
from edgeq.products import BUILD
from edgeq.progress import Progress, Silent
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import EQUALIZED, equalize, rescaled
from edgeq.quant.freeze import freeze
from edgeq.quant.intake import FORMS, Intake, raw_input
from edgeq.quant.scheme import specify
from edgeq.quant.widths import parted
from edgeq.report.device import kept_rows, with_devices
from edgeq.synth.generatorfile import GENERATOR
from edgeq.threads import choose, threads_restored, work_with
from edgeq.zoo.load import LoadedModel
from edgeq.zoo.spec import ModelSpec

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
    intake: Intake
    evaluation: EvaluationSet | None
    cache: StageCache
    progress: Progress


@threads_restored()
def build(config: BuildConfig, progress: Progress | None = None, world: World = ALONE) -> dict[str, Any]:
    """Build one model for one target and write the artifact folder. Returns the report as written to report.json.

    The first process of `world` calls this; the others wait in `take_part`, and fine-tune with it. Raises `EdgeqError`
    for everything foreseen; whatever happens, the output folder is the previous one or the new one.
    """
    progress = progress or Silent()
    torch.manual_seed(config.seed)
    asked, (config, tuning) = config, choose_tuning(config)
    check_method(config.method)
    if config.output is not None:
        check_replaceable(config.output, BUILD)
    target = load_target(config.target)
    scheme = scheme_of(config, target)
    loaded = loaded_model(config)
    check_replaceable(config.output_folder(loaded.spec.name), BUILD)
    started = time.monotonic()
    progress.stage("capture")
    raw = captured(loaded)
    graph = parted(optimize(raw), scheme)
    specify(graph, loaded.spec.input_range(), scheme)  # refuses, before minutes of synthesis, what cannot be
    intake = intake_of(config, target, scheme, graph, loaded.spec, tuning)
    check_tuning(config, tuning, graph, world)
    config = with_images(config, tuning, graph)
    seconds = {"capture": time.monotonic() - started}
    progress.done("capture", seconds["capture"], cached=False)
    progress.note(str(work_with(choose(config.threads, graph.macs(), config.images))))
    where = config.evaluation or loaded.spec.evaluation
    evaluation = load_images(where, loaded.spec, config.eval_limit) if where else None
    forced = frozenset(STAGES) if "all" in config.force else frozenset(config.force)
    cache = StageCache(config.cache, progress, forced)
    written_as = format_of(target, scheme.widest_weights)
    job = _Job(config, target, written_as, scheme, loaded, raw, graph, intake, evaluation, cache, progress)

    method, why = choose_method(config.method, raw)
    synthesized, calibration = synthesize(config, loaded, raw, method, cache, world=world, forbidden=evaluation)
    calibrated, integer = _calibrate(job, calibration)
    facts = {"made_on": synthesized.facts.get("device", "cpu"), **calibrated.facts}
    if tuning:
        drawn_by = synthesized.files.get(GENERATOR) if method == "zs-cgan" else None  # or only part of the images
        tuned = finetuned(config, tuning, loaded.spec, raw, graph, calibration, scheme, cache, drawn_by, world)
        integer = IntegerGraph.load(tuned.files["integer.safetensors"])
        facts |= tuned.facts
        seconds["finetune"] = tuned.seconds
    integer, fed = intake.integers(integer, scheme.widest_weights), intake.images(calibration)
    facts["layers"] = [*_entry_rows(intake, integer, fed), *facts["layers"]]
    stored = storable(integer)
    written = _write(job, stored)
    artifact, baseline = (written.files[f"{name}{job.format.suffix}"] for name in ("model", "float"))
    verified = _verify(job, stored, artifact, fed)
    measured = _measure(job, integer, artifact, baseline)
    for name, result in zip(STAGES[1:], (synthesized, calibrated, written, verified, measured), strict=True):
        seconds[name] = result.seconds
    made = Made(
        config=asked,
        target=target,
        loaded=loaded,
        graph=graph,
        intake=intake,
        method=method,
        method_reason=why,
        calibration=fed,
        integer=integer,
        artifact=artifact,
        baseline=baseline,
        facts={
            **facts,
            "io": written.facts["io"],
            "weight_storage": written.facts["weights"],
            "labels": evaluation.note if evaluation else "",
            **verified.facts,
            **measured.facts,
        },
        seconds=seconds,
    )
    report, folder = report_of(made), config.output_folder(loaded.spec.name)
    if rows := kept_rows(report, folder):
        report = with_devices(report, rows)
    write_folder(made, report, folder)
    return report


def _calibrate(job: _Job, calibration: CalibrationSet) -> tuple[Result, IntegerGraph]:
    graph, input_range = job.graph, job.loaded.spec.input_range()
    if job.intake.form == "weights":
        graph, input_range = job.intake.graph(graph), job.intake.spec.input_range()
        calibration = job.intake.images(calibration)
    parts = {
        "graph": graph.digest(),
        "calibration": calibration.digest(),
        "range": input_range,
        "scheme": dataclasses.asdict(job.scheme),
        "observer": job.config.observer,
        "equalized": EQUALIZED,
        "edgeq": version("edgeq"),
    }

    def work(folder: Path) -> dict[str, Any]:
        even = equalize(graph, calibration, input_range, job.scheme)
        decided = calibrate(even, calibration, input_range, scheme=job.scheme, observer=job.config.observer)
        frozen = freeze(even, decided)
        write_atomic(folder / "integer.safetensors", frozen.graph.to_bytes())
        rows = layer_errors(even, frozen.graph, calibration.inputs[:8])
        return {
            "dead_channels": dict(frozen.dead_channels),
            "notes": list(frozen.notes),
            "equalized": len(rescaled(graph, even)),
            "layers": [row.to_json() for row in rows],
        }

    result = job.cache.run("calibrate", parts, work)
    return result, IntegerGraph.load(result.files["integer.safetensors"])


def _entry_rows(intake: Intake, integer: IntegerGraph, images: CalibrationSet) -> list[dict[str, Any]]:
    """Rows of ops in front of the graph that was calibrated: the one that normalises pixels, where there is one."""
    if intake.form != "op":
        return []
    return [row.to_json() for row in layer_errors(*intake.front(integer), images.inputs[:8])]


def _write(job: _Job, integer: IntegerGraph) -> Result:
    io, weights = types_of(job.config, job.target, job.scheme)
    if integer.activation_types == {"int16"}:
        weights = job.config.weight_storage or "int8"
    told = job.config.metadata == "yes" if job.config.metadata else job.target.metadata
    about = _about(job, io) if told else None
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


def _about(job: _Job, io: str | None) -> About:
    spec = job.intake.spec
    told = f"{spec.name}, {job.config.bits}, by edgeq"
    labels = spec.labels if len(spec.labels) == spec.classes else ()  # one logit has no output for each of its two
    return About(spec.name, told, spec.mean, spec.std, labels, raw_input(io) if io and job.intake.raw else "")


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
    threads = job.config.bench_threads or job.target.threads
    machine = this_machine()
    parts = {
        "artifact": _sha256(artifact.read_bytes()),
        "simulated": integer.digest() if integer.narrow() else None,
        "float": _sha256(baseline.read_bytes()),
        "evaluation": job.evaluation.sha256 if job.evaluation else None,
        "fed": [job.intake.spec.mean, job.intake.spec.std],
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
            before = _answers(job, everything(module), images, "float network", job.loaded.spec)
            fed = job.intake.spec
            after = _answers(job, everything(session), images, session.runtime, fed)
            if narrow:
                facts["simulated"] = {"values": len(narrow), "images": len(images), "file_score": after.score}
                after = _answers(job, everything(integer), images, "exact reference", fed)
            facts["accuracy"] = compare_answers(before, after) | {"images": images.source, "sha256": images.sha256}
        elif narrow:
            facts["simulated"] = {"values": len(narrow)}
        sample = torch.zeros(1, *job.loaded.spec.input_shape).numpy()
        facts["latency"] = measure_latency(job.format.open(baseline, threads), session, sample).to_json()
        return facts

    return job.cache.run("measure", parts, work)


def _answers(job: _Job, run: Everything, images: EvaluationSet, whose: str, spec: ModelSpec) -> Accuracy | Answers:
    def report(done: int) -> None:
        job.progress.step(done, len(images), whose)

    return measure_answers(run, images.batches(spec), spec, report, f"the {whose}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _runtimes() -> dict[str, str]:
    return {name: version(name) for name in ("ai-edge-litert", "onnxruntime", "numpy")}


@threads_restored()
def plan(config: BuildConfig) -> dict[str, Any]:
    """What `build` would do, without doing it: stages, shapes, parameters, MACs, unsupported ops, estimated seconds."""
    config, tuning = choose_tuning(config)
    check_method(config.method)
    target = load_target(config.target)
    scheme = scheme_of(config, target)
    loaded = loaded_model(config)
    check_replaceable(config.output_folder(loaded.spec.name), BUILD)
    if where := config.evaluation or loaded.spec.evaluation:
        check_images(where)
    refused = unsupported_calls(loaded.module, loaded.spec.input_shape, loaded.spec.name)
    facts: dict[str, Any] = {
        "model": loaded.spec.name,
        "target": target.name,
        "input": list(loaded.spec.input_shape),
        "unsupported": [{"op": e.what, "where": e.where, "hint": e.hint} for e in refused],
    }
    if refused:
        return facts
    started = time.monotonic()
    raw = captured(loaded)
    graph = parted(optimize(raw), scheme)
    specify(graph, loaded.spec.input_range(), scheme)  # refuses, before minutes of synthesis, what cannot be
    captured_in = time.monotonic() - started
    intake = intake_of(config, target, scheme, graph, loaded.spec, tuning)
    if intake.raw:
        facts["raw_pixels"] = f"{FORMS[intake.form]} ({intake.why})"
    config = with_images(config, tuning, graph)
    method, why = choose_method(config.method, raw)
    chosen = work_with(choose(config.threads, graph.macs(), config.images))
    estimated = estimate(config, raw, graph, method, scheme, tuning, where, capture_seconds=captured_in)
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
        "threads": str(chosen),
        **estimated.to_json(),
        "layers": [
            {"name": n.name, "op": type(n.op).__name__, "output": list(graph.shapes[n.name])} for n in graph.nodes
        ],
    }
