"""Remedies for what a diagnosis found: other settings of the same build, each tried before it is shown.

A remedy is a change of `BuildConfig`. It is prepared and calibrated as a build would, and simulated on held-out
synthetic images; one that helps too little is dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.config.build import BuildConfig
from edgeq.config.formats import FORMATS
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import EdgeqError
from edgeq.formats.base import format_of
from edgeq.graph.ir import Graph
from edgeq.integer.storage import drop_unstorable_bits
from edgeq.measure.causes import Cause
from edgeq.measure.effects import Effect, LayerEffect, SimulatedNetwork
from edgeq.pipeline.choices import choose_method, types_of
from edgeq.pipeline.prepare import RANKED, Job, open_job, prepare
from edgeq.quant.bits import match_layer_bits, weight_bits
from edgeq.quant.freeze import freeze
from edgeq.quant.quantize import Decided, decide

__all__ = ["Remedy", "Trial", "calibration_images", "candidates", "simulate", "try_remedies"]

HELPS = 0.8
"""Share of the noise that a remedy may leave; what leaves more is not shown."""

TAKEN = (0.5, 0.9)
"""Shares of the weights' noise that the layers of a remedy make; one remedy for each."""

MOST_LAYERS = 12
"""The most layers that one remedy names."""


@dataclass(frozen=True)
class Trial:
    """A build that was simulated: the `effect` on its answers, the `bytes` of its file, and which shares of the
    multiply-accumulates its target computes in 16 bits (`wide`) and with packed weights of four bits (`packed`)."""

    effect: Effect
    bytes: int
    wide: float
    packed: float


@dataclass(frozen=True)
class Remedy:
    """Settings to build with instead, as `config`, the cause they are for, and what simulating them gave."""

    config: BuildConfig
    why: str
    trial: Trial


def calibration_images(job: Job, images: CalibrationSet) -> CalibrationSet:
    """Normalised `images` as the graph of `job` that is calibrated takes them."""
    return job.input_transform.images(images) if job.input_transform.form == "weights" else images


def simulate(
    job: Job, images: CalibrationSet, held_out: npt.NDArray[np.float32], decided: Decided | None = None
) -> tuple[SimulatedNetwork, Trial]:
    """Calibrate a build on normalised `images` and simulate it on `held_out` ones, which its graph takes.

    Raises `EdgeqError` as a build does.
    """
    if decided is None:
        decided = decide(
            job.quantized_graph,
            calibration_images(job, images),
            job.input_range,
            job.scheme,
            observer=job.config.observer,
            specs=job.specs,
        )
    ranked = job.loaded.spec.task in RANKED
    network = SimulatedNetwork(decided.graph, decided.calibration, held_out, ranked=ranked)
    io, storage = types_of(job.config, job.target, job.scheme)
    written = drop_unstorable_bits(
        job.input_transform.integers(freeze(decided.graph, decided.calibration).graph, job.scheme.widest_weights)
    )
    if written.activation_types == {"int16"}:
        storage = job.config.weight_storage or "int8"
    size = len(format_of(job.target, job.scheme.widest_weights).write(written, io, storage))
    wide = {node.name for node in decided.graph.nodes if decided.calibration.activations[node.name].dtype == "int16"}
    packed = {
        node.name
        for node in decided.graph.layers()
        if storage == "int4" and node.name not in wide and (decided.calibration.weights[node.inputs[1]].bits or 8) <= 4
    }
    trial = Trial(network.built(), size, _share_of_macs(decided.graph, wide), _share_of_macs(decided.graph, packed))
    return network, trial


def _share_of_macs(graph: Graph, names: set[str]) -> float:
    macs = {n.name: n.op.macs([graph.shapes[i] for i in n.inputs], graph.shapes[n.name]) for n in graph.nodes}
    return sum(macs[name] for name in names) / max(sum(macs.values()), 1)


def candidates(job: Job, causes: Sequence[Cause], effects: Mapping[str, LayerEffect]) -> list[tuple[str, BuildConfig]]:
    """Settings worth trying, each with the reason."""
    config = job.requested
    found: list[tuple[str, BuildConfig]] = []
    if job.method != choose_method("auto", job.raw, job.loaded.spec.task)[0]:
        found.append(("calibration images that the network makes", dataclasses.replace(config, method="auto")))
    if any(cause.kind == "clipping" for cause in causes) and config.observer != "minmax":
        found.append(("ranges that hold every value", dataclasses.replace(config, observer="minmax")))
    found += _more_weight_bits(job, effects)
    found += _more_activation_bits(job, causes)
    return found


def _more_weight_bits(job: Job, effects: Mapping[str, LayerEffect]) -> list[tuple[str, BuildConfig]]:
    """All the target's bits for the weights of the noisiest layers, or more for all weights."""
    config, graph = job.requested, job.quantized_graph
    bits, most = weight_bits(graph, job.scheme), job.scheme.edge_bits or job.target.weight_bits
    layers = {node.name: bits[node.inputs[1]] for node in graph.layers() if node.name in effects}
    few = sorted((name for name in layers if layers[name] < most), key=lambda name: -effects[name].weights)
    total, found = sum(effect.alone for effect in effects.values()), []
    for share in TAKEN:
        taken, chosen = 0.0, list[str]()
        for name in few:
            if taken >= share * total or len(chosen) == MOST_LAYERS:
                break
            chosen.append(name)
            taken += effects[name].weights
        if chosen and taken >= TAKEN[0] * total:
            why = f"more weight bits where they count: {_names(chosen)}"
            found.append((why, _with_bits(job, dict.fromkeys(chosen, (most, None)))))
    for everywhere in (4, most):
        if few and job.scheme.weight_bits < everywhere:
            bits_everywhere = f"w{everywhere}a{job.scheme.activation_bits}"
            found.append(
                (f"weights of {everywhere} bits everywhere", dataclasses.replace(config, bits=bits_everywhere))
            )
    return [pair for place, pair in enumerate(found) if pair not in found[:place]]


def _more_activation_bits(job: Job, causes: Sequence[Cause]) -> list[tuple[str, BuildConfig]]:
    """8 or 16 bits for the values whose rounding costs most, the first alone and all of them."""
    graph, found = job.quantized_graph, []
    few = job.scheme.fewest_activations < 8
    if not few and not FORMATS.get(job.target.format).wide:
        return []
    values = [cause.where for cause in causes if not cause.in_weights or cause.kind == "bias overflow"]
    for some in dict.fromkeys((tuple(values[:1]), tuple(values))):
        # A layer's bits are those of what it reads; with 16 it also makes 16.
        touching = [n.name for n in graph.layers() if n.inputs[0] in some or (not few and n.name in some)]
        if touching:
            new = _with_bits(job, dict.fromkeys(touching, (None, 8 if few else 16)))
            found.append((f"activations of {8 if few else 16} bits in {_names(touching)}", new))
    if job.scheme.activation_bits < 8:
        new = dataclasses.replace(job.requested, bits=f"w{job.scheme.weight_bits}a8")
        found.append(("activations of 8 bits everywhere", new))
        if job.scheme.weight_bits < 8:
            found.append(("8 bits everywhere", dataclasses.replace(job.requested, bits="w8a8")))
    return found


def _with_bits(job: Job, wanted: Mapping[str, tuple[int | None, int | None]]) -> BuildConfig:
    """The settings with other bits of weights and activations for some layers; None keeps what they have."""
    graph, scheme = job.quantized_graph, job.scheme
    weights, requested = weight_bits(graph, scheme), match_layer_bits(graph, scheme)
    by_name = {node.name: node for node in graph.layers()}
    words = []
    for name, (new_weights, new_activations) in wanted.items():
        has = requested[name].activations if name in requested else scheme.activation_bits
        words.append(f"{name}=w{new_weights or weights[by_name[name].inputs[1]]}a{new_activations or has}")
    return dataclasses.replace(job.requested, layer_bits=(*job.requested.layer_bits, *words))


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def try_remedies(
    job: Job,
    found: Sequence[tuple[str, BuildConfig]],
    before: Trial,
    images: Callable[[Job], CalibrationSet],
    held_out: Callable[[Job], npt.NDArray[np.float32]],
    step: Callable[[int], None],
) -> list[Remedy]:
    """Those of the settings `found` that help and that no other beats in all it costs, the least noise first.

    `images` gives the normalised calibration images of a job, `held_out` what to simulate it on.
    """
    helping = []
    for place, (why, config) in enumerate(found):
        step(place)
        try:
            new = prepare(open_job(config, job.loaded), raw=job.raw)
            _, trial = simulate(new, images(new), held_out(new))
        except EdgeqError:  # bits that this network or target cannot have
            continue
        same = trial.effect.same is None or before.effect.same is None or trial.effect.same >= before.effect.same
        if same and trial.effect.noise <= HELPS * before.effect.noise:
            helping.append(Remedy(config, why, trial))
    kept: list[Remedy] = []
    for remedy in sorted(helping, key=lambda each: each.trial.effect.noise):
        if all(remedy.trial.bytes < other.trial.bytes or remedy.trial.wide < other.trial.wide for other in kept):
            kept.append(remedy)
    return kept
