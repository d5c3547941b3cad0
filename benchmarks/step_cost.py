"""What a step of fine-tuning costs, on this processor: the figures `edgeq.finetune.budget` counts with.

    python benchmarks/step_cost.py            # prints, and writes benchmarks/results/step_cost.md

Processor seconds of one thread, at the batch each network gets, over four steps after one that warms up (a generator's
turn among them); peak memory of a process that did nothing else. ImageNet-sized networks take the very command that
small ones do: ``edgeq build NETWORK.toml --bits w4a4 --all-layers --method zaq``.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from typing import Any

import numpy as np
import torch
from cases import NETWORKS, ROOT, commit, data_folder
from latency import machine_line

from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.finetune.budget import EFFORTS, batch_for, steps_for, values_of
from edgeq.finetune.loop import Job, finetune
from edgeq.finetune.settings import METHODS, settings_for
from edgeq.graph.passes import optimize
from edgeq.pipeline.synthesis import captured
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.synth.memory import keep_freed_memory
from edgeq.zoo.load import load_model

MODELS = {name: ROOT / "models" / name / "model.toml" for name in ("signs-mobilenetv2", "signs-fixup")} | {
    name: NETWORKS / f"{name}.toml"
    for name in ("resnet20", "mobilenetv1-0.25", "mobilenetv2-folded", "squeezenet1.1", "camvid-segmenter")
}
STEPS = 4


def cost(name: str, method: str) -> dict[str, Any]:
    """Seconds of processor per step; noise for images, because what they show changes no cost."""
    torch.set_num_threads(1)
    keep_freed_memory()
    loaded = load_model(str(MODELS[name]))
    raw, spec = captured(loaded), loaded.spec
    graph = optimize(raw)
    settings = dataclasses.replace(settings_for(method, "balanced", graph), warm_up=0, turns=STEPS)
    inputs = np.random.default_rng(0).normal(0, 1, (max(8, settings.batch), *spec.input_shape)).astype(np.float32)
    images = CalibrationSet(np.clip(inputs, *spec.input_range()), np.full(len(inputs), -1, np.int64), "noise")
    few = dataclasses.replace(images, inputs=images.inputs[:2], labels=images.labels[:2])
    decided = calibrate(graph, few, spec.input_range(), scheme=Scheme.of("w4a4", all_layers=True), correct_bias=False)
    low, high = (torch.from_numpy(v) for v in spec.channel_range())

    def seconds(steps: int) -> tuple[float, float]:
        job = Job(graph, raw, decided, images, low, high, dataclasses.replace(settings, steps=steps))
        started = time.process_time()
        done = finetune(job)
        return time.process_time() - started, done.facts["peak_mib"]

    seconds(STEPS)
    (short, _), (long, peak) = seconds(STEPS), seconds(2 * STEPS)
    return {
        "batch": batch_for(graph), "values": values_of(graph), "macs": graph.macs(), "peak": peak,
        "seconds": (long - short) / STEPS, "steps": {e: steps_for(graph, method, e) for e in EFFORTS},
    }  # fmt: skip


def main() -> None:
    data_folder()
    lines = [
        "# What a step of fine-tuning costs", "",
        "Printed by `benchmarks/step_cost.py`. All layers at 4 bits, one thread, processor seconds; noise for images.",
        "",
        f"Machine: {machine_line()}; torch {torch.__version__}; commit {commit()}.", "",
        "| network | method | batch | 1e3 values, MACs 1e6 an image | s a step | ns a value and image | peak MiB "
        f"| steps {', '.join(EFFORTS)} |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    context = multiprocessing.get_context("spawn")
    for name in MODELS:
        for method in METHODS:
            with context.Pool(1) as pool:
                found = pool.apply(cost, (name, method))
            each = 1e9 * found["seconds"] / found["batch"] / found["values"]
            lines.append(
                f"| {name} | {method} | {found['batch']} | {found['values'] / 1e3:.0f}, {found['macs'] / 1e6:.0f} "
                f"| {found['seconds']:.2f} | {each:.0f} | {found['peak']:.0f} "
                f"| {', '.join(str(n) for n in found['steps'].values())} |"
            )
            print(lines[-1], flush=True)
    write_atomic(ROOT / "benchmarks" / "results" / "step_cost.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
