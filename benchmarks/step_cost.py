"""What a step of fine-tuning costs, on this processor: the figures `edgeq.finetune.budget` counts with.

    python benchmarks/step_cost.py            # prints, and writes benchmarks/results/step_cost.md

Processor seconds of one thread, at the batch each network gets, over four steps (twenty on a GPU) after as many that
warm up, a generator's turn among them; peak memory of a process that did nothing else. ImageNet-sized networks take the
very command that small ones do: ``edgeq build NETWORK.toml --bits w4a4 --all-layers --method zaq``.

Where CUDA is: seconds on the wall, the GPU's own peak memory, two of torchvision's networks besides (weights drawn,
which cost the same), and results/step_cost_gpu.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from typing import Any

import numpy as np
import torch
from cases import NETWORKS, ROOT, commit, data_folder
from subjects import hardware

from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.finetune.budget import EFFORTS, batch_for, steps_for, values_of
from edgeq.finetune.loop import Job, finetune
from edgeq.finetune.settings import METHODS, settings_for
from edgeq.graph.passes import optimize
from edgeq.model.load import load_model
from edgeq.pipeline.prepare import capture_model
from edgeq.quant.calibrate import calibrate
from edgeq.quant.scheme import Scheme
from edgeq.synth.memory import keep_freed_memory

MODELS = {name: ROOT / "models" / name / "model.toml" for name in ("signs-mobilenetv2", "signs-fixup")} | {
    name: NETWORKS / f"{name}.toml"
    for name in ("resnet20", "mobilenetv1-0.25", "mobilenetv2-folded", "squeezenet1.1", "camvid-segmenter")
}
CUDA = torch.cuda.is_available()
DRAWN = ("torchvision:resnet18", "torchvision:resnet50") if CUDA else ()
STEPS = 20 if CUDA else 4


def cost(name: str, method: str) -> dict[str, Any]:
    """Seconds per step; noise for images, because what they show changes no cost."""
    torch.set_num_threads(1)
    keep_freed_memory()
    loaded = load_model(name, weights="random") if name in DRAWN else load_model(str(MODELS[name]))
    raw, spec = capture_model(loaded), loaded.spec
    graph = optimize(raw)
    settings = dataclasses.replace(settings_for(method, "balanced", graph), warm_up=0, turns=STEPS)
    inputs = np.random.default_rng(0).normal(0, 1, (max(8, settings.batch), *spec.input_shape)).astype(np.float32)
    images = CalibrationSet(np.clip(inputs, *spec.input_range()), np.full(len(inputs), -1, np.int64), "noise")
    few = dataclasses.replace(images, inputs=images.inputs[:2], labels=images.labels[:2])
    decided = calibrate(graph, few, spec.input_range(), scheme=Scheme.of("w4a4", all_layers=True), correct_bias=False)
    low, high = (torch.from_numpy(v) for v in spec.channel_range())

    def seconds(steps: int) -> tuple[float, float]:
        job = Job(graph, raw, decided, images, low, high, dataclasses.replace(settings, steps=steps))
        clock = time.perf_counter if CUDA else time.process_time
        started = clock()
        done = finetune(job)
        peak = torch.cuda.max_memory_allocated() / 2**20 if CUDA else done.facts["peak_mib"]
        return clock() - started, peak

    seconds(STEPS)
    (short, _), (long, peak) = seconds(STEPS), seconds(2 * STEPS)
    return {
        "batch": batch_for(graph),
        "values": values_of(graph),
        "macs": graph.macs(),
        "peak": peak,
        "seconds": (long - short) / STEPS,
        "steps": {e: steps_for(graph, method, e) for e in EFFORTS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*MODELS, *DRAWN]
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    data_folder()
    unit = "seconds on the wall, a GPU's memory" if CUDA else "processor seconds"
    lines = [
        f"# What a step of fine-tuning costs{' on a GPU' if CUDA else ''}",
        "",
        f"Printed by `benchmarks/step_cost.py`. All layers at 4 bits, one thread, {unit}; noise for images.",
        "",
        f"Machine: {hardware()}; torch {torch.__version__}; commit {commit()}.",
        "",
        "| network | method | batch | 1e3 values, MACs 1e6 an image | s a step | ns a value and image | peak MiB "
        f"| steps {', '.join(EFFORTS)} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    context = multiprocessing.get_context("spawn")
    for name in options.networks:
        for method in options.methods:
            with context.Pool(1) as pool:
                found = pool.apply(cost, (name, method))
            each = 1e9 * found["seconds"] / found["batch"] / found["values"]
            lines.append(
                f"| {name} | {method} | {found['batch']} | {found['values'] / 1e3:.0f}, {found['macs'] / 1e6:.0f} "
                f"| {found['seconds']:.{3 if CUDA else 2}f} | {each:.{1 if CUDA else 0}f} | {found['peak']:.0f} "
                f"| {', '.join(str(n) for n in found['steps'].values())} |"
            )
            print(lines[-1], flush=True)
    name = "step_cost_gpu.md" if CUDA else "step_cost.md"
    if [*options.networks] == known and [*options.methods] == [*METHODS]:  # a part is no page
        write_atomic(ROOT / "benchmarks" / "results" / name, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
