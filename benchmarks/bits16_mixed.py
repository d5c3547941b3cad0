"""16-bit activations where they count: a network in w8a8, with some of its layers in 16 bits, and in w8a16.

    python benchmarks/bits16_mixed.py      # prints, and writes benchmarks/results/bits16_mixed.md

Which layers is decided without data: each value in turn is rounded to its 8-bit grid, the rest of the network staying
float, and values are ranked by what that costs the outputs on calibration images, which the network made itself. The
layers that make and read the worst get ``a16``. Accuracy, agreement and bytes are as in `bits16.py`; time is the
processor's, which other work on the machine hardly changes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from bits16 import prepared
from cases import ROOT, commit, data_folder
from latency import machine_line

from edgeq.files import write_atomic
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Conv2d, Linear
from edgeq.measure.accuracy import agreement, evaluate, logits_function
from edgeq.measure.effects import SimulatedNetwork
from edgeq.measure.layers import layer_errors
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

NAME, LIMIT = "mobilenetv1-0.25", 500
WORST = (2, 8)
"""Values kept in 16 bits."""
EXACT = 2
"""Calibration images compared value by value."""
PAIRS = 41
"""Timings of both files."""


def ranked(graph: Graph, decided: Calibration, inputs: npt.NDArray[np.float32]) -> list[str]:
    """Values that a layer makes or reads, by the noise of the answers when only that value is rounded; worst first. The
    network's input and output are left out: `--io` decides about those."""
    effects = SimulatedNetwork(graph, decided, inputs, ranked=True).layer_effects()
    found = [name for name in effects if name not in graph.outputs and touching(graph, name)]
    return sorted(found, key=lambda name: -effects[name].activation)


def touching(graph: Graph, value: str) -> list[str]:
    """Layers that make or read a value."""
    layers = graph.of_kind(Conv2d, Linear)
    return [node.name for node in layers if node.name == value or node.inputs[0] == value]


def ratio(plain: LiteRTSession, other: LiteRTSession, sample: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    """Processor time of one inference by `other` in units of `plain`'s, single-threaded, in turns: the median of pairs
    and their quartiles."""

    def seconds(session: LiteRTSession) -> float:
        started = time.process_time()
        session.invoke()
        return time.process_time() - started

    for session in (plain, other):
        session.prepare(sample)
        session.invoke()
    pairs = [seconds(other) / seconds(plain) for _ in range(PAIRS)]
    low, middle, high = np.quantile(pairs, (0.25, 0.5, 0.75))
    return float(middle), float(low), float(high)


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    plain, spec, calibration, images, before = prepared(NAME, LIMIT)
    decided = calibrate(plain, calibration, spec.input_range(), scheme=Scheme.of("w8a8"))
    worst = ranked(plain, decided, calibration.inputs[:8])
    schemes = {"w8a8": Scheme.of("w8a8")}
    chosen: dict[str, list[str]] = {}
    for count in WORST:
        layers = {layer for value in worst[:count] for layer in touching(plain, value)}
        chosen[f"{count} values"] = [node.name for node in plain.of_kind(Conv2d, Linear) if node.name in layers]
        mixture = Scheme.of("w8a8", layers=tuple(f"{name}=w8a16" for name in chosen[f"{count} values"]))
        schemes[f"{count} values"] = mixture
    schemes["w8a16"] = Scheme.of("w8a16")
    text = [
        "# Some layers in 16 bits",
        "",
        f"Printed by `benchmarks/bits16_mixed.py`: {NAME}, calibrated on 32 images of `gznq` (`fast`), {len(images)}",
        f"evaluation images, of which the float network answers {before.top1:.1f} % right. The mixtures keep in",
        "16 bits those values whose rounding alone costs the outputs most on calibration images, by giving `a16` to",
        "the layers that make and read them. Agreement: same argmax as the float network. Logits: their SQNR on",
        "calibration images.",
        "Time: the processor's for one inference, one thread, in units of the w8a8 file's under XNNPACK, in turns:",
        "median of pairs and quartiles. XNNPACK runs what has 8 bits, LiteRT's plain kernels what has 16.",
        "",
        f"Machine: {machine_line()}; commit {commit()}.",
        "",
        "| activations | 16-bit layers | conversions | top-1 | agreement | logits, dB | bytes "
        "| values equal to the reference | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "w8a8.tflite"
        for place, (name, scheme) in enumerate(schemes.items()):
            graph = apply_mixed_precision(plain, scheme)
            frozen = quantize(graph, calibration, spec.input_range(), scheme)
            # Inputs are of the same type in all, so that none is spared a conversion.
            data = write_tflite(frozen, io="float32")
            file = reference if place == 0 else Path(folder) / f"{place}.tflite"
            file.write_bytes(data)
            exact = verify_tflite(frozen, data, calibration.inputs[:EXACT])
            last = layer_errors(graph, frozen, calibration.inputs[:8])[-1]
            after = evaluate(logits_function(LiteRTSession(file, kernels="builtin", threads=1)), images.batches(spec))
            sample = np.ascontiguousarray(calibration.inputs[:1])
            middle, first, third = ratio(LiteRTSession(reference), LiteRTSession(file), sample)
            took = f"{middle:.2f} ({first:.2f} to {third:.2f})"
            layers = len(list(plain.of_kind(Conv2d, Linear))) if name == "w8a16" else len(chosen.get(name, ()))
            text.append(
                f"| {name} | {layers} | {census(data).requantize} | {after.top1:.1f} "
                f"| {100 * agreement(before, after):.1f} | {last.sqnr_db:.1f} | {len(data):,} "
                f"| {exact.equal:,} of {exact.values:,} | {took} |"
            )
            print(text[-1], flush=True)
    text += ["", "Their layers:", ""]
    text += [f"- {name}: {', '.join(f'`{layer}`' for layer in layers)}" for name, layers in chosen.items()]
    write_atomic(ROOT / "benchmarks" / "results" / "bits16_mixed.md", "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
