"""build(): the stages in order, checkpoint to report, each remembered by the hash of what it read.

    capture -> synthesize -> calibrate [-> finetune] -> write -> verify -> measure -> report

Data moves down this page. A stage is a function of what stands above it and never reaches back.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch

from edgeq.cache import Result, StageCache
from edgeq.config.build import FORCEABLE, BuildConfig
from edgeq.config.targets import load_target
from edgeq.data.evaluation import check_images, load_images
from edgeq.files import check_replaceable
from edgeq.finetune.budget import minutes_for
from edgeq.finetune.precision import training_device
from edgeq.finetune.settings import settings_for
from edgeq.graph.capture.walk import unsupported_calls
from edgeq.graph.passes import optimize
from edgeq.integer.storage import storable
from edgeq.pipeline.artifact import Made, report_of, write_folder
from edgeq.pipeline.calibrating import calibrated, entry_rows
from edgeq.pipeline.choices import intake_of, scheme_of
from edgeq.pipeline.estimate import estimate
from edgeq.pipeline.finetuning import check_tuning, choose_tuning, finetuned, with_images
from edgeq.pipeline.locking import check_place, lock_inputs
from edgeq.pipeline.measuring import FloatNetwork, measured
from edgeq.pipeline.synthesis import captured, check_method, choose_method, loaded_model, synthesize
from edgeq.pipeline.writing import verified, written
from edgeq.products import BUILD
from edgeq.progress import Progress, Silent
from edgeq.quant.input_transform import FORMS
from edgeq.quant.mixed_precision import parted
from edgeq.quant.scheme import specify
from edgeq.report.device import kept_rows, with_devices
from edgeq.report.lock import MAKING
from edgeq.report.locked import Locked
from edgeq.synth.generatorfile import GENERATOR
from edgeq.threads import choose, threads_restored, work_with

__all__ = ["build", "choose_method", "plan"]

STAGES = ("capture", "synthesize", "calibrate", "write", "verify", "measure")


@threads_restored()
def build(config: BuildConfig, progress: Progress | None = None, locked: Locked | None = None) -> dict[str, Any]:
    """Build one model for one target and write the artifact folder. Returns the report as written to report.json.

    Raises `EdgeqError` for everything foreseen, `GateError` among them where the file computes other values than it
    should; whatever happens, the output folder is the previous one or the new one.

    `locked` is the lock whose bytes must come out, and `config` what it says. Nothing that decides them is then taken
    from the cache. Raises `ConfigError` where an input is another, `NotReproduced` where a file is.
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
    folder = config.output_folder(loaded.spec.name)
    check_replaceable(folder, BUILD)
    where = config.evaluation or loaded.spec.evaluation
    evaluation = load_images(where, loaded.spec, config.eval_limit) if where else None
    started = time.monotonic()
    progress.stage("capture")
    raw = captured(loaded)
    graph = parted(optimize(raw), scheme)
    specify(graph, loaded.spec.input_range(), scheme)  # refuses, before minutes of synthesis, what cannot be
    intake = intake_of(config, target, scheme, graph, loaded.spec, tuning)
    check_tuning(config, tuning)
    config = with_images(config, tuning, graph)
    seconds = {"capture": time.monotonic() - started}
    progress.done("capture", seconds["capture"], cached=False)
    progress.note(str(work_with(choose(config.threads, graph.macs(), config.images))))
    inputs = lock_inputs(asked, target, loaded, graph, evaluation)
    check_place(config, folder, inputs)
    if locked is not None:
        locked.check_inputs(inputs, training_device().type)
    forced = {*FORCEABLE} if "all" in config.force else {*config.force, *(MAKING if locked else ())}
    cache = StageCache(config.cache, progress, frozenset(forced))

    def told(stage: str) -> BuildConfig:
        """The settings, with as many threads as the lock's build had in this stage."""
        threads = locked.threads(stage) if locked else None
        return config if threads is None else dataclasses.replace(config, threads=threads)

    method, why = choose_method(config.method, raw)
    synthesized, calibration = synthesize(told("synthesize"), loaded, raw, method, cache, forbidden=evaluation)
    frozen = calibrated(told("calibrate"), graph, intake, scheme, calibration, cache)
    results = {"synthesize": synthesized, "calibrate": frozen}
    if tuning:
        drawn_by = synthesized.files.get(GENERATOR) if method == "zs-cgan" else None  # or only part of the images
        frozen = finetuned(told("finetune"), tuning, loaded.spec, raw, graph, calibration, scheme, cache, drawn_by)
        results["finetune"] = frozen
    integer, fed = intake.integers(frozen.value, scheme.widest_weights), intake.images(calibration)
    stored = storable(integer)
    results["write"] = written(told("write"), target, scheme, intake, stored, graph, cache)
    files = artifact, baseline = results["write"].value
    results["verify"] = verified(config, target, scheme, stored, artifact, fed, cache)
    network = FloatNetwork.of(loaded, raw)
    results["measure"] = measured(config, target, scheme, intake, network, integer, files, evaluation, cache)
    made = Made(
        config=asked,
        target=target,
        loaded=loaded,
        inputs=inputs,
        graph=graph,
        intake=intake,
        method=method,
        method_reason=why,
        calibration=fed,
        integer=integer,
        artifact=artifact,
        baseline=baseline,
        facts=_facts(results, entry_rows(intake, integer, fed)) | {"labels": evaluation.note if evaluation else ""},
        seconds=seconds | {stage: result.seconds for stage, result in results.items()},
    )
    report = report_of(made)
    if rows := kept_rows(report, folder):
        report = with_devices(report, rows)
    write_folder(made, report, folder, locked)
    return report


def _facts(results: Mapping[str, Result], entry: list[dict[str, Any]]) -> dict[str, Any]:
    """What the stages noted, as a report has it. `entry` are rows of ops in front of the graph that was calibrated."""
    facts = {**results["calibrate"].facts, **(results["finetune"].facts if "finetune" in results else {})}
    told = results["write"].facts
    return {
        **facts,
        "made_on": results["synthesize"].facts["device"],
        "layers": [*entry, *facts["layers"]],
        "io": told["io"],
        "weight_storage": told["weights"],
        **results["verify"].facts,
        **results["measure"].facts,
        "made_with": {stage: result.facts["made_with"] for stage, result in results.items()},
    }


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
