"""Planted faults, and what `edgeq diagnose` says of them: layer, cause, remedy, and how much the remedy restores.

    python benchmarks/diagnose.py                                     every fault of every network
    python benchmarks/diagnose.py --network signs-mobilenetv2 ...     some of them

Writes benchmarks/results/diagnose.md. Faults of weights leave the float network's function as it is: what is done to a
channel is undone in the layers that read it. The loss is noise of the answers on held-out synthetic images, in units of
their variance between images; restored is the share of what the fault added that the first remedy takes away.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import ROOT, commit
from latency import machine_line

from edgeq.cache import StageCache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import TargetLimitError
from edgeq.files import write_atomic
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm, Clamp
from edgeq.graph.passes import optimize
from edgeq.pipeline.build import build
from edgeq.pipeline.diagnose import diagnose, diagnose_job
from edgeq.pipeline.prepare import Job, open_job, prepare
from edgeq.pipeline.synthesis import synthesize
from edgeq.progress import Silent
from edgeq.quant.equalize import Joint, find_joints

NETWORKS = ("signs-mobilenetv2", "scenes-segmenter", "scenes-detector", "signs-fixup")
SHIPPED, EVALUATED = "signs-mobilenetv2", 1000
"""The network whose advice is followed, and how many evaluation images then measure."""

CHANNEL = 1
"""The channel that faults are planted in."""


@dataclass(frozen=True)
class Fault:
    """`plant` changes a captured graph and names the nodes that may be blamed; `settings` are those of the faulty
    build. `kinds` are the causes that would be right, empty where the fault costs nothing; `fix` must stand in the
    command of the first remedy."""

    name: str
    plant: Callable[[Graph], tuple[Graph, set[str]]]
    kinds: frozenset[str] = frozenset()
    fix: str = ""
    settings: Callable[[Graph], dict[str, Any]] = lambda _: {}
    dark: bool = False


def joint(graph: Graph) -> Joint:
    """The values without a cap whose channels most layers share."""
    return max((one for one in find_joints(graph) if one.cap == float("inf")), key=lambda one: len(one.readers))


def scaled_channel(raw: Graph) -> tuple[Graph, set[str]]:
    """A channel 50 times as large, in all that make it, and a fiftieth in all that read it."""
    graph = optimize(raw)
    found, constants = joint(graph), dict(graph.constants)
    for node in found.makers:
        for name in node.inputs[1:]:
            constants[name] = constants[name].copy()
            constants[name][CHANNEL] *= 50
    for node in found.readers:
        weight = constants[node.inputs[1]] = constants[node.inputs[1]].copy()
        weight[(CHANNEL,) if weight.shape[1] == 1 else (slice(None), CHANNEL)] /= 50
    return graph.replace(constants=constants), {*found.values, *(node.name for node in found.readers)}


def large_bias(raw: Graph, size: float) -> tuple[Graph, set[str]]:
    """A bias of `size` on one channel, which the biases of all layers that read it take back."""
    graph = optimize(raw)
    found, constants = joint(graph), dict(graph.constants)
    maker = found.makers[0]
    constants[maker.inputs[2]] = constants[maker.inputs[2]].copy()
    constants[maker.inputs[2]][CHANNEL] += size
    for node in found.readers:
        weight = constants[node.inputs[1]]
        constants[node.inputs[2]] = constants[node.inputs[2]] - size * weight[:, CHANNEL].sum((1, 2)).astype(np.float32)
    return graph.replace(constants=constants), {*found.values, *(node.name for node in found.readers)}


def batch_norm_gain(raw: Graph) -> tuple[Graph, set[str]]:
    """A channel in front of a batch norm a thousandth as large, and the batch norm's gain a thousand times."""
    norm = next(raw.of_kind(BatchNorm))
    maker, constants = raw.node(norm.inputs[0]), dict(raw.constants)
    assert maker is not None
    for name, factor in ((maker.inputs[1], 1e-3), (norm.inputs[1], 1e3), (norm.inputs[3], 1e-3)):
        constants[name] = constants[name].copy()
        constants[name][CHANNEL] *= factor
    return raw.replace(constants=constants), {norm.name, maker.name}


def no_relu6(raw: Graph) -> tuple[Graph, set[str]]:
    """Every ReLU6 a ReLU."""
    nodes = [
        dataclasses.replace(node, op=Clamp(0.0, float("inf"))) if isinstance(node.op, Clamp) else node
        for node in raw.nodes
    ]
    return raw.replace(nodes=tuple(nodes)), set()


def dead_channels(raw: Graph) -> tuple[Graph, set[str]]:
    """A quarter of the channels of a layer always 0, in all that make them."""
    graph = optimize(raw)
    found, constants = joint(graph), dict(graph.constants)
    for node in found.makers:
        for name in node.inputs[1:]:
            constants[name] = constants[name].copy()
            constants[name][: len(constants[name]) // 4] = 0
    return graph.replace(constants=constants), set(found.values)


def layers_in_the_middle(raw: Graph) -> list[str]:
    """A third of the layers."""
    layers = [node.name for node in optimize(raw).layers()]
    return layers[len(layers) // 3 : 2 * len(layers) // 3]


def nothing(raw: Graph) -> tuple[Graph, set[str]]:
    return raw, set(layers_in_the_middle(raw))


def few_activations(raw: Graph) -> tuple[Graph, set[str]]:
    names = layers_in_the_middle(raw)
    return raw, {*names, *(node.inputs[0] for node in optimize(raw).layers() if node.name in names)}


LOST_CHANNEL = frozenset({"outlier channels", "outlier channels in its input", "bias overflow", "weight rounding"})
FAULTS = (
    Fault("none (healthy)", nothing),
    Fault("one channel times 50", scaled_channel, LOST_CHANNEL, "a16"),
    Fault("bias of 1,000 on a channel", lambda raw: large_bias(raw, 1e3), LOST_CHANNEL, "a16"),
    Fault("bias of 100,000 on a channel", lambda raw: large_bias(raw, 1e5), LOST_CHANNEL, "a16"),
    Fault("gain of a batch norm times 1000", batch_norm_gain),
    Fault("ReLU6 removed", no_relu6, frozenset({"clipping", "activation rounding", "outlier channels"}), "a16"),
    Fault("a quarter of the channels dead", dead_channels),
    Fault("weights of a third of the layers in 2 bits", nothing, frozenset({"few weight bits"}), "=w8a8",
          lambda raw: {"layer_bits": tuple(f"{name}=w2a8" for name in layers_in_the_middle(raw))}),
    Fault("inputs of a third of the layers in 3 bits", few_activations, frozenset({"few activation bits"}), "a8",
          lambda raw: {"layer_bits": tuple(f"{name}=w8a3" for name in layers_in_the_middle(raw))}),
    Fault("dark calibration images", nothing, frozenset({"clipping"}), "--method auto", dark=True),
)  # fmt: skip


def examine(network: str, fault: Fault, healthy: float | None, cache: Path) -> tuple[str, float]:
    """A row of the table, and the noise that the build has."""
    plain = BuildConfig(model=network, cache=cache, output=cache / "none", threads=1)
    base = prepare(open_job(plain))
    stages = StageCache(cache, Silent())

    def synthetic(seed: int, effort: str) -> CalibrationSet:
        config = dataclasses.replace(base.config, seed=seed, effort=effort)
        return synthesize(config, base.loaded, base.raw, base.method, stages)[1]

    good, held_out = synthetic(0, "balanced"), synthetic(1, "fast")
    raw, blamed = fault.plant(base.raw)
    low = np.reshape(base.loaded.spec.channel_range()[0], (1, -1, 1, 1))
    dark = dataclasses.replace(good, inputs=(low + (good.inputs - low) * 0.15).astype(np.float32), method="dark")

    def images(of: Job) -> CalibrationSet:
        return dark if fault.dark and of.config.method != "auto" else good

    # Pictures are never read: `images` stands in for them.
    folder = cache / "pictures"
    folder.mkdir(exist_ok=True)
    np.savez(folder / "dark.npz", images=np.zeros((2, *base.loaded.spec.input_shape[1:], 3), np.uint8))
    config = dataclasses.replace(plain, **fault.settings(base.raw))
    if fault.dark:
        config = dataclasses.replace(config, method=f"images:{folder / 'dark.npz'}")
    job = prepare(open_job(config, base.loaded), raw=raw)
    found = diagnose_job(job, images, held_out, Silent())
    noise = 10 ** (-found["answers_db"] / 10)
    return f"| {network} | {fault.name} | {judged(found, fault, blamed, noise, healthy)} |", noise


def judged(found: dict[str, Any], fault: Fault, blamed: set[str], noise: float, healthy: float | None) -> str:
    same = "" if found["same_answers"] is None else f", {found['same_answers']:.0%} as float"
    answers = f"{found['answers_db']:.1f} dB{same}"
    if found["sound"]:
        return f"{answers} | sound | – | – | {'right' if not fault.fix else 'nothing to restore'} | –"
    cause, remedy = found["causes"][0], (found["remedies"] or [None])[0]
    layer = "right" if cause["where"] in blamed or fault.dark or not blamed else "wrong"
    kind = cause["kind"] + (" (right)" if cause["kind"] in fault.kinds else " (wrong)")
    if remedy is None:
        return f"{answers} | {cause['where']} ({layer}) | {kind} | none helps | – | –"
    after = 10 ** (-remedy["answers_db"] / 10)
    restored = "–" if healthy is None or noise <= healthy else f"{min(1.0, (noise - after) / (noise - healthy)):.0%}"
    right = "right" if fault.fix and fault.fix in remedy["command"] else "wrong"
    before, now = shlex.split(found["command"]), shlex.split(remedy["command"])
    words = " ".join(word for word in now if word not in before or word.startswith("--layer"))
    words = words.replace("--layer-bits ", "") if "--layer-bits" in words else words
    words = words if len(words) < 90 else words[:87] + "..."
    method = " --method auto" if fault.dark and "--method" not in now else ""
    right = "right" if method else right
    return f"{answers} | {cause['where']} ({layer}) | {kind} | `{(words + method).strip()}` | {right} | {restored}"


def followed(cache: Path, folder: Path) -> list[str]:
    """Table of what following the advice for a w2a8 build does to its file, on evaluation images nothing else read."""
    plain = BuildConfig(model=SHIPPED, bits="w2a8", cache=cache, output=folder / "w2a8", eval_limit=EVALUATED)
    reports = [("as built", build(plain), "")]
    found = diagnose(dataclasses.replace(plain, output=None))
    for remedy in found["remedies"]:
        words = remedy["command"].split()
        layers = tuple(word for flag, word in itertools.pairwise(words) if flag == "--layer-bits")
        bits = words[words.index("--bits") + 1] if "--bits" in words else BuildConfig().bits
        config = dataclasses.replace(plain, bits=bits, layer_bits=layers)
        told = f"{remedy['same_answers']:.0%}, predicted from {found['same_answers']:.0%}"
        reports.append((remedy["why"], build(dataclasses.replace(config, output=folder / "again")), told))
    return [
        f"## {SHIPPED} in w2a8, and its advice followed",
        "",
        f"Files run by LiteRT on {EVALUATED} evaluation images, which the advice never saw.",
        "",
        "| build | top-1 | float | answers as float | predicted | bytes | time of float |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {made['accuracy']['integer']['score']:.2f} | {made['accuracy']['float']['score']:.2f} "
            f"| {made['accuracy']['agreement']:.1%} | {told or '–'} | {made['artifact']['bytes']:,} "
            f"| {made['latency']['ratio']:.2f}{'' if made['latency']['valid'] else ' (machine busy)'} |"
            for name, made, told in reports
        ),
    ]


def main() -> None:
    """Examine, print, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--advice", action="store_true", help="only follow the advice for a w2a8 build")
    parser.add_argument("--cache", type=Path, help="where calibration images are kept [default: nowhere]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = [
        "## Planted faults",
        "",
        "w8a8 for tflite-arm, simulated, on held-out synthetic images. *Sound* is what a diagnosis says where nothing",
        "is wrong. *Nothing to restore*: the fault costs less than that, mostly because edgeq scales channels before",
        "it quantizes, and there is nothing to advise. Restored is the share of the noise that the fault added which",
        "the first remedy takes away.",
        "",
        "| network | fault | answers | layer | cause | first remedy | verdict | restored |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        cache = options.cache or Path(folder)
        advice = followed(cache, Path(folder))
        print("\n".join(advice), flush=True)
        printed = f"Printed by `benchmarks/diagnose.py` on {machine_line()}; commit {commit()}."
        text = ["# Diagnoses", "", printed, "", *advice, "", *about]
        for network in () if options.advice else options.network or NETWORKS:
            healthy = None
            for fault in FAULTS:
                try:
                    row, noise = examine(network, fault, healthy, cache)
                except TargetLimitError as error:  # some values of this network cannot have so few bits
                    row, noise = f"| {network} | {fault.name} | cannot be planted: {error} |" + " – |" * 5, 0.0
                healthy = noise if healthy is None else healthy
                text.append(row)
                print(row, flush=True)
                write_atomic(ROOT / "benchmarks" / "results" / "diagnose.md", "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
