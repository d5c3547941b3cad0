"""Which method to trust where there is no batch norm: ask networks that do remember.

    python benchmarks/without_batchnorm.py            # prints, and writes benchmarks/results/without_batchnorm.md

Networks with batch norm are folded, so that a method sees weights only; what the batch norms remembered then judges the
images it made. No picture takes part, so what this table says may choose defaults (`auto`, settings of `inversion`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from cases import NETWORKS, ROOT, data_folder
from latency import machine_line

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.passes import fold_batchnorm
from edgeq.graph.run import GraphModule
from edgeq.model.load import load_model
from edgeq.pipeline.prepare import capture_model
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.synth.inversion import Settings, invert
from edgeq.synth.statistics import layer_gaps, observe_moments, references

METHODS = ("noise", "uniform", "gzsq-literal", "leaves", "inversion", "gzsq")
VARIANTS = {
    "inversion, 80 iterations": Settings(iterations=80),
    "inversion, 320 iterations": Settings(iterations=320),
    "inversion, rate 0.01": Settings(rate=0.01),
    "inversion, rate 0.02": Settings(rate=0.02),
    "inversion, all 0.9 sure": Settings(confidence=(0.9, 0.9)),
    "inversion, every image pulled": Settings(untouched=0.0),
    "inversion, half untouched": Settings(untouched=0.5),
}
YARDSTICK = "gznq"
"""Sees the batch norms; how large the logits of its images are is the best guess there is at those of photographs."""
NAMES = ("resnet20", "resnet8", "person-detect", "mobilenetv1-0.25")
IMAGES = 32


def rows(name: str) -> list[str]:
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    raw = capture_model(loaded)
    low, high = loaded.spec.channel_range()
    request = Request(fold_batchnorm(raw), low, high, loaded.spec.classes, IMAGES, seed=0)
    makers: dict[str, Callable[[], CalibrationSet]] = {
        name: partial(SYNTHESIZERS.get(name), request) for name in METHODS
    }
    makers |= {name: partial(invert, request, settings) for name, settings in VARIANTS.items()}
    makers[f"{YARDSTICK} (sees batch norms)"] = partial(SYNTHESIZERS.get(YARDSTICK), replace(request, graph=raw))
    lines = []
    for method, make in makers.items():
        started = time.monotonic()
        made = make()
        seconds = time.monotonic() - started
        wanted, _ = references(raw)
        seen, _ = observe_moments(raw, made.inputs, [want.value for want in wanted])
        gaps = layer_gaps(wanted, seen)
        mean, std = (float(np.mean([getattr(gap, key) for gap in gaps])) for key in ("mean_gap", "std_gap"))
        with torch.no_grad():
            logits = GraphModule(raw)(torch.from_numpy(made.inputs))
        last, most = gaps[-1].std_gap, float(logits.max())
        lines.append(f"| {name} | {method} | {mean:.3f} | {std:.3f} | {last:.3f} | {most:.1f} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    head = [
        "# Methods that need no batch norm, judged by batch norms",
        "",
        "`python benchmarks/without_batchnorm.py`",
        "",
        f"{IMAGES} images, seed 0, default effort, {machine_line()}. Gaps in remembered standard deviations, mean over",
        "channels and layers: 0 is a perfect match. Seconds on a shared machine.",
        "",
        "| network | method | mean gap | deviation gap | at the last batch norm | largest logit | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head))
    names = sys.argv[1:] or NAMES
    body = [line for name in names for line in rows(name)]
    if not sys.argv[1:]:
        (ROOT / "benchmarks" / "results" / "without_batchnorm.md").write_text("\n".join([*head, *body]) + "\n")


if __name__ == "__main__":
    main()
