"""Networks with attention in integers: what is left of the answer by where the scores' factor goes, and transposes.

    python benchmarks/attention.py              # prints the table
    python benchmarks/attention.py --write      # and writes benchmarks/results/attention.md

The networks are the small ones of the tests, with random weights; images are random pictures, smooth and rough.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from cases import ROOT, commit
from latency import machine_line
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import PASSES, Pass, optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from tests.graph.attention_networks import ATTENTION, weighted

PAGE = ROOT / "benchmarks" / "results" / "attention.md"
RANGE, SHAPE, IMAGES, SEEDS = (-2.5, 2.5), (3, 16, 16), 16, 4


def without(*names: str) -> list[Pass]:
    return [one for one in PASSES if getattr(one, "__name__", "") not in names]


FORMS: dict[str, Sequence[Pass]] = {
    "in the softmax": PASSES,
    "in the layer before": without("scale_softmax"),
    "an op of its own": without("scale_softmax", "absorb_scale"),
}


def main() -> None:
    """Quantize every network in every form, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    page = "\n".join(lines())
    print(page)
    if options.write:
        PAGE.write_text(page + "\n")


def lines() -> list[str]:
    """The page."""
    made = [
        "# Attention in integers",
        "",
        "Printed by `benchmarks/attention.py`: w8a8, the networks of `tests/graph/attention_networks.py` with random",
        f"weights, {IMAGES} random images, mean of {SEEDS} seeds. What is left of the answer after rounding, in dB, by",
        "where the factor of the scores goes; TRANSPOSE ops of the TFLite file; and the share of all values that equal",
        "LiteRT's reference kernels (first seed, first form).",
        "",
        f"Machine: {machine_line()}. Commit: {commit()}.",
        "",
        f"| network | {' | '.join(f'dB, {form}' for form in FORMS)} | TRANSPOSE | values equal |",
        "|---" * (len(FORMS) + 3) + "|",
    ]
    for name in ATTENTION:
        found = {
            form: [signal(network(name, seed), passes, seed) for seed in range(SEEDS)] for form, passes in FORMS.items()
        }
        means = [f"{np.mean([db for db, _ in rows]):.1f}" for rows in found.values()]
        net, x = found["in the softmax"][0][1], images(0)
        data = write_tflite(net)
        checked = verify_tflite(net, data, x[:2])
        share = f"{checked.equal:,} of {checked.values:,}"
        made.append(f"| {name} | {' | '.join(means)} | {census(data).kinds.get('TRANSPOSE', 0)} | {share} |")
    return made


def network(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return weighted(ATTENTION[name](), seed)


def images(seed: int) -> np.ndarray:
    """Smooth pictures with a little noise, ``(N, 3, 16, 16)``."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn((IMAGES, 3, 4, 4), generator=random)
    smooth = nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")
    rough = torch.randn((IMAGES, *SHAPE), generator=random)
    return (1.2 * smooth + 0.3 * rough).clamp(*RANGE).numpy()


def signal(module: nn.Module, passes: Sequence[Pass], seed: int) -> tuple[float, IntegerGraph]:
    """dB of the integer network's answers, and its integers. NaN where the form cannot be quantized."""
    x = images(seed)
    graph = optimize(capture(module, SHAPE, "net"), passes)
    with torch.no_grad():
        answer = GraphModule(graph)(torch.from_numpy(x))
    want = (answer[0] if isinstance(answer, tuple) else answer).numpy()
    try:
        net = quantize(graph, CalibrationSet(x, np.full(len(x), -1, np.int64), "noise"), RANGE, Scheme.of("w8a8"))
    except UnsupportedError as error:
        raise SystemExit(f"{error}") from error
    (entry,), end = net.inputs, net.outputs[0]
    have = net.quantizations[end].dequantize(run(net, net.quantizations[entry].quantize(x))[end])
    return 10 * float(np.log10((want**2).sum() / ((want - have) ** 2).sum())), net


if __name__ == "__main__":
    main()
