"""diagnose(): why a network loses in integers, layer by layer, and what to build instead. Reads no evaluation image.

capture -> synthesize -> held-out images -> calibrate -> effects and symptoms -> causes -> remedies, simulated
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.cache import StageCache, open_cache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.measure.causes import find_causes
from edgeq.measure.effects import Effect, decibels
from edgeq.measure.symptoms import find_symptoms
from edgeq.model.load import LoadedModel
from edgeq.pipeline.artifact import command_of
from edgeq.pipeline.choices import choose_method
from edgeq.pipeline.prepare import Job, open_job, prepare
from edgeq.pipeline.remedies import Remedy, Trial, calibration_images, candidates, simulate, try_remedies
from edgeq.pipeline.rewrite import rewrite_report
from edgeq.pipeline.synth import forbidden_images
from edgeq.pipeline.synthesis import synthesize
from edgeq.progress import Progress, Silent
from edgeq.report.check import read_report
from edgeq.report.fields.diagnosis import Diagnosis
from edgeq.report.schema import pick
from edgeq.synth.statistics import layer_gaps, observe_moments, references
from edgeq.threads import threads_restored

__all__ = ["diagnose", "diagnose_job", "held_out_images"]

HELD_OUT = 32
"""Held-out synthetic images, unless the network is large."""

FEWEST, WORK = 4, 5e11
"""The fewest held-out images, and about how many multiply-accumulates the effects of all layers may take together."""

SOUND = 0.02
"""Noise of the answers below which nothing is wrong with a build: 17 dB."""

KEPT = 0.9
"""Share of images that must have the float network's answer for a build to be sound."""

UNLIKE = 2.0
"""How many times as far from what batch norms remember calibration images may be as held-out synthetic ones."""

APART = 0.3
"""Distance from batch norms, in remembered standard deviations, up to which calibration images are never unlike."""


@threads_restored()
def diagnose(
    config: BuildConfig,
    progress: Progress | None = None,
    loaded: LoadedModel | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Diagnose the build that `config` describes. Returns what ``edgeq diagnose --json`` prints.

    Where `folder` holds that build, finished, its report gets the diagnosis too, and advises the remedies.
    Fine-tuning is left out: what is diagnosed is the network before it. Raises `EdgeqError` as a build does.
    """
    progress = progress or Silent()
    before = None if folder is None else read_report(folder)
    torch.manual_seed(config.seed)
    job = prepare(open_job(config, loaded), progress)
    cache = open_cache(config.cache, progress)
    forbidden = forbidden_images(config, job.loaded, job.method)

    def images(of: Job) -> CalibrationSet:
        kept = forbidden if of.method == job.method else None
        return synthesize(of.config, of.loaded, of.raw, of.method, cache, forbidden=kept)[1]

    images(job)
    held_out = held_out_images(job, cache)
    progress.stage("diagnose")
    found = diagnose_job(job, images, held_out, progress)
    if folder is not None and before is not None:
        rewrite_report(folder, before, {**before, "diagnosis": pick(found, Diagnosis)}, found["command"])
    return found


def diagnose_job(
    job: Job, images: Callable[[Job], CalibrationSet], held_out: CalibrationSet, progress: Progress
) -> dict[str, Any]:
    """Diagnose a prepared build. `images` gives the normalised calibration images of any job, and `held_out` are others
    that its answers are compared on."""

    def inputs(of: Job) -> npt.NDArray[np.float32]:
        return calibration_images(of, held_out).inputs

    given = images(job)
    network, before = simulate(job, given, inputs(job))
    effects = network.layer_effects()
    symptoms = find_symptoms(network.graph, network.calibration, network.images.numpy())
    distances = _distances(job.raw, given, held_out)
    sound = _is_sound(before.effect)
    causes = [] if sound else find_causes(network.graph, network.calibration, effects, symptoms)
    found = [] if sound else candidates(job, causes, effects)
    remedies = try_remedies(
        job, found, before, images, inputs, lambda done: progress.step(done, len(found), "remedies")
    )
    bits = network.calibration
    rows = [
        {
            "name": node.name,
            "op": type(node.op).__name__,
            "weight_bits": (bits.weights[node.inputs[1]].bits or 8) if node.op.is_layer else None,
            "activation_bits": 16 if (grid := bits.activations[node.name]).dtype == "int16" else grid.bits or 8,
            "weights_db": decibels(effects[node.name].weights) if node.op.is_layer else None,
            "activation_db": decibels(effects[node.name].activation),
            "alone_db": decibels(effects[node.name].alone),
            "spared_share": effects[node.name].share,
            **dataclasses.asdict(symptoms[node.name]),
        }
        for node in network.graph.nodes
        if node.name in effects
    ]
    return {
        "schema": 1,
        "model": job.loaded.spec.name,
        "target": job.target.name,
        "bits": job.requested.bits,
        "images": len(network.images),
        "without_finetuning": job.tuning or None,
        "sound": sound,
        **_facts(before),
        "calibration": distances and distances | {"unlike": _unlike(distances)},
        "causes": [dataclasses.asdict(cause) for cause in causes],
        "remedies": [_remedy(remedy, before, job) for remedy in remedies],
        "tried": len(found),
        "layers": rows,
        "command": command_of(job.requested),
    }


def held_out_images(job: Job, cache: StageCache) -> CalibrationSet:
    """Synthetic images that calibrate nothing: of another seed, and of the network's own making whatever calibrates."""
    method, _ = choose_method("auto", job.raw, job.loaded.spec.task)
    layers = 4 * len(job.graph.nodes)
    count = int(np.clip(WORK / max(job.graph.macs() * layers, 1), FEWEST, HELD_OUT))
    config = dataclasses.replace(
        job.config, method=method, seed=job.config.seed + 1, images=count, effort="fast", recipe=()
    )
    return synthesize(config, job.loaded, job.raw, method, cache)[1]


def _distances(raw: Graph, given: CalibrationSet, held_out: CalibrationSet) -> dict[str, Any] | None:
    """How far images are from what batch norms remember, the mean over layers in remembered standard deviations, and
    the layer where the calibration images are furthest; None without batch norms."""
    try:
        statistics, source = references(raw)
    except UnsupportedError:
        return None
    if source != "batch norm" or not statistics:
        return None
    values = [each.value for each in statistics]
    ours, theirs = (layer_gaps(statistics, observe_moments(raw, s.inputs, values)[0]) for s in (given, held_out))
    worst = max(ours, key=lambda row: row.mean_gap + row.std_gap)
    return {
        "distance": float(np.mean([row.mean_gap + row.std_gap for row in ours])),
        "held_out_distance": float(np.mean([row.mean_gap + row.std_gap for row in theirs])),
        "worst": worst.layer,
    }


def _unlike(distances: Mapping[str, Any]) -> bool:
    return bool(distances["distance"] > max(APART, UNLIKE * distances["held_out_distance"]))


def _is_sound(effect: Effect) -> bool:
    return effect.noise <= SOUND and (effect.same is None or effect.same >= KEPT)


def _facts(trial: Trial) -> dict[str, Any]:
    return {
        "answers_db": decibels(trial.effect.noise),
        "same_answers": trial.effect.same,
        "bytes": trial.bytes,
        "macs_16bit": trial.wide,
        "macs_packed": trial.packed,
    }


def _remedy(remedy: Remedy, before: Trial, job: Job) -> dict[str, Any]:
    return {
        "why": remedy.why,
        "command": command_of(remedy.config),
        **_facts(remedy.trial),
        "time": _time(remedy.trial, before, job.target.kernels),
    }


def _time(after: Trial, before: Trial, kernels: str) -> str:
    """What is known of the time: which kernels of the target compute another share of the work."""
    if after.wide > before.wide:
        return f"slower: {after.wide:.0%} of the work is in 16 bits, for which {kernels} has no kernel"
    if after.packed < before.packed:
        return f"faster: {after.packed:.0%} of the work has 4-bit weights instead of {before.packed:.0%}"
    return "the same kernels"
