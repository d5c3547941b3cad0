"""How close estimated statistics, and images made from them, come to batch norms that were hidden.

    python benchmarks/learned_statistics.py           # prints, and writes benchmarks/results/learned_statistics.md
    python benchmarks/learned_statistics.py resnet8   # prints

Batch norms are folded, so that only weights are left, and what they remembered is the truth: mean and deviation of the
output of each folded layer. The first table is about estimates from weights, part by part. The second is about images,
with and without each of the two losses of `gzsq`. No picture takes part, so settings may be chosen by both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from cases import COLUMNS, ROOT, data_folder
from latency import machine_line
from subjects import Subject

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm
from edgeq.graph.passes import fold_batchnorm
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.synth.gzsq import FIELDS, Settings, synthesize
from edgeq.synth.learnedstats import estimate_learned
from edgeq.synth.statistics import Reference, layer_gaps, observe_moments
from edgeq.synth.weightstats import Statistics, estimate_faithful, estimate_moments

NAMES = ("resnet20", "resnet8", "person-detect", "signs-mobilenetv2", "mobilenetv1-0.25")
IMAGES = 32


def truth(raw: Graph, folded: Graph) -> list[Reference]:
    """Mean and deviation of each folded layer's output, as its batch norm remembers them."""
    left = {node.name for node in folded.nodes}
    found = []
    for node in raw.of_kind(BatchNorm):
        value, gamma, beta, _, var = node.inputs
        kept = raw.constants[var].astype(np.float64)
        spread = np.abs(raw.constants[gamma]) * np.sqrt(kept / (kept + node.op.eps))
        if value in left:
            found.append(Reference(node.name, value, raw.constants[beta].astype(np.float64), spread))
    return found


def estimates(folded: Graph, pictures: torch.Tensor) -> dict[str, Mapping[str, Statistics]]:
    """Statistics per layer by every way of estimating them."""
    names = [node.name for node in folded.nodes if node.op.is_layer]
    plain, _ = observe_moments(folded, pictures.numpy(), names)
    return {
        "the paper's recursion": estimate_faithful(folded),
        "moments of independent values": estimate_moments(folded),
        "random shapes, as they are": {name: Statistics(*plain[name]) for name in names},
        "random shapes, corrected by biases": estimate_learned(folded, pictures, passes=1),
        "the same, louder where biases ask": estimate_learned(folded, pictures),
    }


def gap_cells(wanted: list[Reference], seen: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Mean gap, deviation gap, and the latter at the last layer."""
    gaps = layer_gaps(wanted, seen)
    mean, std = (float(np.mean([getattr(gap, key) for gap in gaps])) for key in ("mean_gap", "std_gap"))
    return f"{mean:.3f} | {std:.3f} | {gaps[-1].std_gap:.3f}"


def measure(name: str, first: list[str], second: list[str]) -> None:
    """Add one network's rows to both tables."""
    subject = Subject(COLUMNS[name])
    raw, folded = subject.raw, fold_batchnorm(subject.raw)
    wanted = truth(raw, folded)
    low, high = subject.loaded.spec.channel_range()
    request = Request(folded, low, high, subject.loaded.spec.classes, IMAGES, seed=0)
    leaves = SYNTHESIZERS.get("leaves")(request)
    for label, found in estimates(folded, torch.from_numpy(leaves.inputs[:FIELDS])).items():
        seen = {key: (s.mean, s.std) for key, s in found.items()}
        first.append(f"| {name} | {label} | {gap_cells(wanted, seen)} |")
        print(first[-1], flush=True)
    makers: dict[str, Callable[[], CalibrationSet]] = {
        "leaves": lambda: leaves,
        "inversion": lambda: SYNTHESIZERS.get("inversion")(request),
        "gzsq": lambda: SYNTHESIZERS.get("gzsq")(request),
        "gzsq, statistics alone": lambda: synthesize(request, Settings(answers=0.0)),
        "gzsq, answers alone": lambda: synthesize(request, Settings(statistics=0.0)),
    }
    values = [want.value for want in wanted]
    for label, make in makers.items():
        started = time.process_time()
        inputs = make().inputs
        seconds = time.process_time() - started
        seen, _ = observe_moments(folded, inputs, values)
        second.append(f"| {name} | {label} | {gap_cells(wanted, seen)} | {seconds:.0f} |")
        print(second[-1], flush=True)


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    first: list[str] = []
    second: list[str] = []
    for name in sys.argv[1:] or NAMES:
        measure(name, first, second)
    text = f"""# Statistics of learned weights, beside hidden batch norms

`python benchmarks/learned_statistics.py`

Gaps in remembered standard deviations, mean over channels and layers: 0 is a perfect match. Seed 0, default effort,
{machine_line()}.

## Estimates

| network | estimate | mean gap | deviation gap | at the last layer |
|---|---|---|---|---|
{chr(10).join(first)}

## Images

{IMAGES} images. Seconds of processor time on a shared machine.

| network | images | mean gap | deviation gap | at the last layer | seconds |
|---|---|---|---|---|---|
{chr(10).join(second)}
"""
    if not sys.argv[1:]:
        (ROOT / "benchmarks" / "results" / "learned_statistics.md").write_text(text)


if __name__ == "__main__":
    main()
