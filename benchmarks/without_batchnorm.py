"""Which method to trust where there is no batch norm: ask networks that do remember.

    python benchmarks/without_batchnorm.py            # prints, and writes benchmarks/results/without_batchnorm.md

Networks with batch norm are folded, so that a method sees weights only; what the batch norms remembered then judges the
images it made. No picture takes part, so what this table says may choose defaults (`auto`, settings of `inversion`).
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from cases import NETWORKS, ROOT, data_folder
from latency import machine_line

from edgeq.graph.passes import fold_batchnorm
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.synth.statistics import layer_gaps, references, seen_moments
from edgeq.synthesis import captured
from edgeq.zoo.load import load_model

METHODS = ("noise", "uniform", "gzsq", "moments", "leaves", "inversion")
NAMES = ("resnet20", "resnet8", "person-detect", "mobilenetv1-0.25")
IMAGES = 32


def rows(name: str) -> list[str]:
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    raw = captured(loaded)
    low, high = loaded.spec.channel_range()
    request = Request(fold_batchnorm(raw), low, high, loaded.spec.classes, IMAGES, seed=0)
    lines = []
    for method in METHODS:
        started = time.monotonic()
        made = SYNTHESIZERS.get(method)(request)
        seconds = time.monotonic() - started
        wanted, _ = references(raw)
        seen, _ = seen_moments(raw, made.inputs, [want.value for want in wanted])
        gaps = layer_gaps(wanted, seen)
        mean, std = (float(np.mean([getattr(gap, key) for gap in gaps])) for key in ("mean_gap", "std_gap"))
        last = gaps[-1]
        lines.append(f"| {name} | {method} | {mean:.3f} | {std:.3f} | {last.std_gap:.3f} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    torch.set_num_threads(2)
    data_folder()
    head = [
        "# Methods that need no batch norm, judged by batch norms",
        "",
        "`python benchmarks/without_batchnorm.py`",
        "",
        f"{IMAGES} images, seed 0, default effort, {machine_line()}. Gaps in remembered standard deviations, mean over",
        "channels and layers: 0 is a perfect match. Seconds on a shared machine.",
        "",
        "| network | method | mean gap | deviation gap | deviation gap of the last batch norm | seconds |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(head))
    names = sys.argv[1:] or NAMES
    body = [line for name in names for line in rows(name)]
    if not sys.argv[1:]:
        (ROOT / "benchmarks" / "results" / "without_batchnorm.md").write_text("\n".join([*head, *body]) + "\n")


if __name__ == "__main__":
    main()
