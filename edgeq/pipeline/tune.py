"""tune(): the smallest build that keeps a promise, searched on synthetic images that calibrated nothing.

w8a8 -> keeps it? few bits everywhere -> else the layers that an integer program picks, the budget of noise bisected
     -> does not? 16-bit values where the target has them

Every candidate is calibrated as a build would be and simulated; the integer program only proposes. No evaluation image
is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.cache import StageCache, open_cache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConflictError, EdgeqError
from edgeq.measure.causes import find_causes
from edgeq.measure.effects import SimulatedNetwork, decibels
from edgeq.measure.symptoms import find_symptoms
from edgeq.model.load import LoadedModel
from edgeq.pipeline.artifact import command_of
from edgeq.pipeline.diagnose import held_out_images
from edgeq.pipeline.prepare import RANKED, Job, open_job, prepare
from edgeq.pipeline.remedies import Trial, calibration_images, candidates, simulate
from edgeq.pipeline.synth import forbidden_images
from edgeq.pipeline.synthesis import synthesize
from edgeq.progress import Progress, Silent
from edgeq.quant.bits import weight_bits
from edgeq.quant.knapsack import largest_saving, least_noise
from edgeq.threads import threads_restored

__all__ = ["Promise", "tune", "with_blends"]

FEW = 4
"""Bits of weights that are tried beside eight."""

BLENDS, OTHER = 3, 0.25
"""How many blends there are of each held-out image, and the share of another one in them. An image that was optimised
for its class is further from the border to another class than pictures are."""

BISECTIONS = 6
SHARES = (1 / 512, 1.0)
"""Shares of the noise of few bits everywhere between which the budget is bisected, on a logarithmic scale."""


@dataclass(frozen=True)
class Promise:
    """What the build must keep. `min_agreement` is a share of images that must have the float network's answer,
    `max_drop` the same as the most points that may change, `min_snr_db` of the outputs; None: not asked."""

    max_drop: float | None = None
    min_agreement: float | None = None
    min_snr_db: float | None = None
    max_bytes: int | None = None

    @property
    def agreement(self) -> float | None:
        """The share of answers that may not change. A changed answer costs one image's score at most."""
        asked = [self.min_agreement, None if self.max_drop is None else 1 - self.max_drop / 100]
        return max((one for one in asked if one is not None), default=None)

    def accurate(self, trial: Trial) -> bool:
        """Whether the answers of a trial are good enough."""
        same = trial.effect.same
        kept = self.agreement is None or (same is not None and same >= self.agreement)
        return kept and (self.min_snr_db is None or decibels(trial.effect.noise) >= self.min_snr_db)

    def small(self, trial: Trial) -> bool:
        """Whether the file of a trial is small enough."""
        return self.max_bytes is None or trial.bytes <= self.max_bytes


@dataclass(frozen=True)
class Tried:
    """A candidate: its settings, the layers with few bits among all that may have them, and its simulation."""

    config: BuildConfig
    what: str
    trial: Trial


@threads_restored()
def tune(
    config: BuildConfig, promise: Promise, progress: Progress | None = None, loaded: LoadedModel | None = None
) -> dict[str, Any]:
    """Find the smallest build that keeps `promise`. Returns what ``edgeq tune --json`` prints.

    `config` says the network, the target and how images are made; its bits are where the search begins. Raises
    `ConflictError` for a promise that this network cannot be held to, and `EdgeqError` as a build does.
    """
    progress = progress or Silent()
    torch.manual_seed(config.seed)
    job = prepare(open_job(config, loaded), progress)
    _check(promise, job)
    search = _Search(job, promise, open_cache(config.cache, progress), progress)
    best = search.run()
    kept = promise.accurate(best.trial) and promise.small(best.trial)
    front = [one for one in search.tried if not any(_beats(other.trial, one.trial) for other in search.tried)]
    return {
        "schema": 1,
        "model": job.loaded.spec.name,
        "target": job.target.name,
        "promise": dataclasses.asdict(promise),
        "kept": kept,
        "measured_on": f"{len(search.images)} synthetic images that calibrated nothing",
        "choice": _facts(best) | {"config": _changes(best.config, config), "command": command_of(best.config)},
        "tried": [_facts(one) | {"front": one in front} for one in search.tried],
    }


def _check(promise: Promise, job: Job) -> None:
    ranked = job.loaded.spec.task in RANKED
    if promise.agreement is not None and not ranked:
        raise ConflictError(
            "--max-drop and --min-agreement",
            where=job.loaded.spec.name,
            why=f"answers of a {job.loaded.spec.task} network are no classes",
            hint="--min-snr-db 30 promises how near its values are",
        )
    if promise == Promise():
        raise ConflictError("nothing is promised", hint="edgeq tune MODEL --max-drop 1.0, or --max-bytes 300k")


class _Search:
    """Candidates are tried here, each once."""

    def __init__(self, job: Job, promise: Promise, cache: StageCache, progress: Progress) -> None:
        self.job, self.promise, self.cache, self.progress = job, promise, cache, progress
        self.tried: list[Tried] = []
        self._forbidden = forbidden_images(job.config, job.loaded, job.method)
        self._calibration(job)  # before the stage of the search begins
        self._plain = held_out_images(job, cache)
        self.images = with_blends(self._plain)
        progress.stage("tune")

    def run(self) -> Tried:
        """The smallest candidate that keeps the promise, else the nearest to it."""
        whole, network = self._try(self.job.requested, self.job.requested.bits)
        savings = self._savings()
        if self.promise.accurate(whole.trial):
            if savings:
                self._few(savings)
        else:
            self._more(network)
        return min(self.tried, key=self._rank)

    def _rank(self, one: Tried) -> tuple[bool, bool, float]:
        """Kept promises first, and of these the smallest file; of others what is nearest to accurate."""
        accurate, small = self.promise.accurate(one.trial), self.promise.small(one.trial)
        return not (accurate and small), not accurate, one.trial.bytes if accurate else one.trial.effect.noise

    def _savings(self) -> dict[str, float]:
        """Bytes that few bits save, by layer; none where the target's files store them in eight."""
        if (self.job.config.weight_storage or self.job.target.narrow_weights) != "int4":
            return {}
        graph = self.job.quantized_graph
        few = dataclasses.replace(self.job.scheme, weight_bits=FEW)
        bits, now = weight_bits(graph, few), weight_bits(graph, self.job.scheme)
        layers = [node for node in graph.layers() if bits[node.inputs[1]] == FEW < now[node.inputs[1]]]
        return {node.name: graph.constants[node.inputs[1]].size / 2 for node in layers}

    def _few(self, savings: Mapping[str, float]) -> None:
        everywhere, network = self._try_few(frozenset(savings), len(savings))
        if self.promise.accurate(everywhere.trial):
            return
        by_layer = self._on_few_images(network).weight_noises()
        noises = {name: noise for name, noise in by_layer.items() if name in savings}
        total = sum(noises.values())
        low, high = np.log(SHARES)
        for step in range(BISECTIONS):
            self.progress.step(step, BISECTIONS, "budgets of noise")
            middle = (low + high) / 2
            chosen = largest_saving(savings, noises, float(np.exp(middle)) * total)
            one, _ = self._try_few(chosen, len(savings))
            low, high = (middle, high) if self.promise.accurate(one.trial) else (low, middle)
        if self.promise.max_bytes is not None and not self.promise.small(min(self.tried, key=self._rank).trial):
            whole = self.tried[0].trial.bytes
            nearest = least_noise(savings, noises, whole - self.promise.max_bytes)
            self._try_few(frozenset(savings) if nearest is None else nearest, len(savings))

    def _try_few(self, layers: frozenset[str], among: int) -> tuple[Tried, SimulatedNetwork]:
        activations = self.job.scheme.activation_bits
        config = self.job.requested
        if len(layers) == among:
            return self._try(dataclasses.replace(config, bits=f"w{FEW}a{activations}"), f"w{FEW} in all layers")
        words = [f"{name}=w{FEW}a{activations}" for name in sorted(layers)]
        new = dataclasses.replace(config, layer_bits=(*config.layer_bits, *words))
        return self._try(new, f"w{FEW} in {len(layers)} of {among} layers")

    def _more(self, network: SimulatedNetwork) -> None:
        """What a diagnosis would try, from more bits of weights to 16-bit values."""
        network = self._on_few_images(network)
        effects = network.layer_effects()
        symptoms = find_symptoms(network.graph, network.calibration, network.images.numpy())
        found = candidates(self.job, find_causes(network.graph, network.calibration, effects, symptoms), effects)
        for place, (why, config) in enumerate(found):
            self.progress.step(place, len(found), "remedies")
            try:
                self._try(config, why)
            except EdgeqError:  # bits that this network or target cannot have
                continue

    def _on_few_images(self, network: SimulatedNetwork) -> SimulatedNetwork:
        """The same network on the held-out images alone: layers are compared with each other there, one by one."""
        images = calibration_images(self.job, self._plain).inputs
        return SimulatedNetwork(network.graph, network.calibration, images, ranked=network.ranked)

    def _try(self, config: BuildConfig, what: str) -> tuple[Tried, SimulatedNetwork]:
        job = self.job
        if config != job.requested:
            job = prepare(open_job(config, job.loaded), raw=job.raw)
        network, trial = simulate(job, self._calibration(job), calibration_images(job, self.images).inputs)
        one = Tried(config, what, trial)
        if all(one.config != other.config for other in self.tried):
            self.tried.append(one)
            same = "" if trial.effect.same is None else f", {trial.effect.same:.1%} of answers as float"
            self.progress.note(f"{what}: {trial.bytes:,} bytes, {decibels(trial.effect.noise):.1f} dB{same}")
        return one, network

    def _calibration(self, job: Job) -> CalibrationSet:
        kept = self._forbidden if job.method == self.job.method else None
        return synthesize(job.config, job.loaded, job.raw, job.method, self.cache, forbidden=kept)[1]


def with_blends(images: CalibrationSet) -> CalibrationSet:
    """`images`, and each of them with a share of others."""
    x: npt.NDArray[np.float32] = images.inputs
    turns = range(1, min(BLENDS, len(x) - 1) + 1)
    blends = [(1 - OTHER) * x + OTHER * np.roll(x, turn, axis=0) for turn in turns]
    labels = np.concatenate([images.labels, *(np.full_like(images.labels, -1) for _ in blends)])
    return dataclasses.replace(images, inputs=np.concatenate([x, *blends]).astype(np.float32), labels=labels)


def _beats(one: Trial, other: Trial) -> bool:
    """No larger, no noisier, no slower kernels, and better in one of these."""
    ours, theirs = ((t.bytes, t.effect.noise, t.wide) for t in (one, other))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def _facts(one: Tried) -> dict[str, Any]:
    trial = one.trial
    return {
        "what": one.what,
        "bytes": trial.bytes,
        "answers_db": decibels(trial.effect.noise),
        "same_answers": trial.effect.same,
        "macs_16bit": trial.wide,
        "macs_packed": trial.packed,
    }


def _changes(chosen: BuildConfig, given: BuildConfig) -> dict[str, Any]:
    """The settings that the search changed."""
    return {
        field.name: getattr(chosen, field.name)
        for field in dataclasses.fields(BuildConfig)
        if getattr(chosen, field.name) != getattr(given, field.name)
    }
