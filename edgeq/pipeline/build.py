"""build(): the stages in order, checkpoint to report, each remembered by the hash of what it read.

    capture -> synthesize -> calibrate [-> finetune] -> write -> verify -> measure -> report

Data moves down this page. A stage is a function of what stands above it and never reaches back.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from edgeq.cache import Result, open_cache
from edgeq.config.build import FORCEABLE, BuildConfig
from edgeq.data.evaluation import check_images, load_images
from edgeq.finetune.budget import minutes_for
from edgeq.finetune.precision import training_device
from edgeq.graph.capture.walk import unsupported_calls
from edgeq.integer.storage import drop_unstorable_bits
from edgeq.measure.answers import ANSWERS
from edgeq.model.load import LoadedModel
from edgeq.pipeline.artifact import BuildOutput, command_of, report_of, write_folder
from edgeq.pipeline.calibrate import calibrate_graph, entry_rows
from edgeq.pipeline.estimate import estimate
from edgeq.pipeline.finetune import check_tuning, finetune_graph
from edgeq.pipeline.locking import check_place, lock_inputs
from edgeq.pipeline.measure import measure_files
from edgeq.pipeline.ondevice import measure_build
from edgeq.pipeline.page import disagreement_sheet, write_page
from edgeq.pipeline.prepare import Job, load_configured, open_job, prepare
from edgeq.pipeline.recipe import tuning_settings
from edgeq.pipeline.synthesis import synthesize
from edgeq.pipeline.write import verify_file, write_files
from edgeq.progress import Progress, Silent
from edgeq.quant.input_transform import FORMS
from edgeq.report.device import kept_rows, with_devices
from edgeq.report.lock import MAKING
from edgeq.report.locked import Locked
from edgeq.synth.generatorfile import GENERATOR
from edgeq.threads import threads_restored

__all__ = ["build", "link_pages", "measure_on_devices", "plan"]

STAGES = ("capture", "synthesize", "calibrate", "write", "verify", "measure")


@threads_restored()
def build(
    config: BuildConfig,
    progress: Progress | None = None,
    locked: Locked | None = None,
    loaded: LoadedModel | None = None,
) -> dict[str, Any]:
    """Build one model for one target and write the artifact folder. Returns the report as written to report.json.

    The network is `loaded`, or the one that `config` names. Raises `EdgeqError` for everything foreseen, `GateError`
    among them where the file computes other values than it should; whatever happens, the output folder is the previous
    one or the new one.

    `locked` is the lock whose bytes must come out, and `config` what it says. Nothing that decides them is then taken
    from the cache. Raises `ConfigError` where an input is another, `NotReproduced` where a file is.
    """
    progress = progress or Silent()
    torch.manual_seed(config.seed)
    opened = open_job(config, loaded)
    where, spec = opened.evaluation, opened.loaded.spec
    evaluation = load_images(where, spec, config.eval_limit) if where else None
    job = prepare(opened, progress)
    check_tuning(job)
    inputs = lock_inputs(job, evaluation)
    check_place(job, inputs)
    if locked is not None:
        locked.check_inputs(inputs, training_device().type)
    forced = {*FORCEABLE} if "all" in config.force else {*config.force, *(MAKING if locked else ())}
    cache = open_cache(config.cache, progress, frozenset(forced))

    def locked_threads(stage: str) -> Job:
        """The job, with as many threads as the lock's build had in this stage."""
        threads = locked.threads(stage) if locked else None
        return job if threads is None else _with_threads(job, threads)

    input_transform = job.input_transform
    synthesized, calibration = synthesize(
        locked_threads("synthesize").config, job.loaded, job.raw, job.method, cache, forbidden=evaluation
    )
    frozen = calibrate_graph(locked_threads("calibrate"), calibration, cache)
    results = {"synthesize": synthesized, "calibrate": frozen}
    if job.tuning:
        # The generator may have drawn only part of the images.
        generator = synthesized.files.get(GENERATOR) if job.method == "zs-cgan" else None
        frozen = finetune_graph(locked_threads("finetune"), calibration, cache, generator)
        results["finetune"] = frozen
    integer = input_transform.integers(frozen.value, job.scheme.widest_weights)
    images = input_transform.images(calibration)
    written = drop_unstorable_bits(integer)
    results["write"] = write_files(locked_threads("write"), written, cache)
    files = artifact, baseline = results["write"].value
    results["verify"] = verify_file(job, written, artifact, images, cache)
    results["measure"] = measure_files(job, integer, files, evaluation, cache)
    output = BuildOutput(
        job=job,
        inputs=inputs,
        calibration=images,
        integer=integer,
        written=written,
        artifact=artifact,
        baseline=baseline,
        answers=results["measure"].files.get(ANSWERS),
        facts=_facts(results, entry_rows(input_transform, integer, images))
        | {"labels": evaluation.note if evaluation else ""},
        seconds={"capture": job.capture_seconds} | {stage: result.seconds for stage, result in results.items()},
    )
    report = report_of(output)
    if rows := kept_rows(report, job.folder):
        report = with_devices(report, rows)
    sheet = disagreement_sheet(report, evaluation) if config.show_images and evaluation else None
    write_folder(output, report, job.folder, locked, disagreements=sheet)
    return report


def link_pages(configs: Sequence[BuildConfig], reports: Sequence[Mapping[str, Any]]) -> None:
    """Write the pages of finished builds again, so that each links to those that were made after it."""
    for config, report in zip(configs, reports, strict=True):
        folder = config.output_folder(report["model"])
        write_page(folder, report, folder, command_of(config))


def _with_threads(job: Job, threads: int) -> Job:
    return dataclasses.replace(job, config=dataclasses.replace(job.config, threads=threads))


def measure_on_devices(
    config: BuildConfig,
    report: Mapping[str, Any],
    *,
    loaded: LoadedModel | None = None,
    program: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the finished build that `report` is about on every device that `config` names. Returns the new report.

    `program` is Android's runner (`edgeq devices`). `say` hears which device is being measured. Raises `EdgeqError`.
    """
    opened = open_job(config, load_configured(config) if loaded is None else loaded)
    where, spec = opened.evaluation, opened.loaded.spec
    return measure_build(
        opened.folder,
        config.devices,
        spec,
        load_images(where, spec, config.eval_limit) if where else None,
        threads=config.bench_threads or opened.target.threads,
        rebuild=command_of(config),
        program=program,
        say=say,
    )


def _facts(results: Mapping[str, Result], entry: list[dict[str, Any]]) -> dict[str, Any]:
    """What the stages noted, as a report has it. `entry` are rows of ops in front of the graph that was calibrated."""
    facts = {**results["calibrate"].facts, **(results["finetune"].facts if "finetune" in results else {})}
    written = results["write"].facts
    return {
        **facts,
        "made_on": results["synthesize"].facts["device"],
        "layers": [*entry, *facts["layers"]],
        "io": written["io"],
        "weight_storage": written["weights"],
        **results["verify"].facts,
        **results["measure"].facts,
        "made_with": {stage: result.facts["made_with"] for stage, result in results.items()},
    }


@threads_restored()
def plan(config: BuildConfig, loaded: LoadedModel | None = None) -> dict[str, Any]:
    """What `build` would do, without doing it: stages, shapes, parameters, MACs, unsupported ops, estimated seconds."""
    opened = open_job(config, loaded)
    model, where = opened.loaded, opened.evaluation
    if where:
        check_images(where)
    started = time.monotonic()
    angles = model.spec.task == "embedding"
    refused = unsupported_calls(model.module, model.spec.input_shape, model.spec.name, angles=angles)
    first = time.monotonic() - started  # loads what torch.export needs, as the capture of a build does
    facts: dict[str, Any] = {
        "model": model.spec.name,
        "target": opened.target.name,
        "input": list(model.spec.input_shape),
        **({"cut": str(model.cut)} if model.cut else {}),
        "unsupported": [{"op": e.what, "where": e.where, "hint": e.hint} for e in refused],
    }
    if refused:
        return facts
    job = prepare(opened)
    config, graph, tuning, input_transform = job.config, job.graph, job.tuning, job.input_transform
    if input_transform.raw:
        facts["raw_pixels"] = f"{FORMS[input_transform.form]} ({input_transform.why})"
    capturing = max(first, job.capture_seconds)
    estimated = estimate(config, job.raw, graph, job.method, job.scheme, tuning, where, capture_seconds=capturing)
    if tuning:
        settings = tuning_settings(tuning, config, graph)
        minutes = minutes_for(graph, tuning, settings.steps)
        facts["finetune"] = {"method": tuning, "steps": settings.steps, "batch": settings.batch, "minutes": minutes}
    return facts | {
        "method": job.method,
        "why": job.why,
        "parameters": graph.parameters(),
        "macs": graph.macs(),
        "ops": len(graph.nodes),
        "output": [list(graph.shapes[name]) for name in graph.outputs],
        "stages": [*STAGES[:3], *(["finetune"] if tuning else []), *STAGES[3:]],
        "threads": str(job.threads),
        **estimated.to_json(),
        "layers": [
            {"name": n.name, "op": type(n.op).__name__, "output": list(graph.shapes[n.name])} for n in graph.nodes
        ],
    }
