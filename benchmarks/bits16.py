"""What 16-bit activations buy and cost: accuracy, bytes, time and exactness, beside 8-bit ones.

    python benchmarks/bits16.py            # prints, and writes benchmarks/results/bits16.md

One network, one calibration set (`gznq`, 32 images), several widths. Accuracy and agreement are the file's own, run by
LiteRT's builtin kernels on evenly spaced evaluation images; exactness is against the reference kernels. Time is in
units of the w8a8 file's with XNNPACK, one thread, in turns, median of pairs and its 95 % interval. Then networks of
`export_networks.py` with random weights, on noise: whether every op has a 16-bit kernel and is exact.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from cases import NETWORKS, ROOT, commit, data_folder
from export import PIXELS, Line
from export_networks import SUBJECTS
from latency import machine_line, ratio_text, time_pair

from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, load_images
from edgeq.files import write_atomic
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.measure.accuracy import Accuracy, agreement, evaluate, logits_function
from edgeq.measure.layers import layer_errors
from edgeq.model.load import load_model
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.prepare import capture_model
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.synth import SYNTHESIZERS, Request

NAMES = {"resnet20-shifted": 1000, "resnet8": 500, "mobilenetv1-0.25": 500}
"""Evaluation images of each network."""

BITS = ("w8a8", "w8a16", "w4a8", "w4a16")
EXACT = 8
"""Calibration images compared value by value."""

STRUCTURES = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "squeezenet1_1",
    "mnasnet1_0",
    "regnet_y_400mf",
    "lraspp_mobilenet_v3_large",
    "U-Net, transposed convolutions",
    "YOLO-style",
    "face recogniser, PReLU",
    "MLPerf Tiny ResNet-8",
    "MLPerf Tiny person detector",
    "MLPerf Tiny DS-CNN",
    "MLPerf Tiny autoencoder",
)


def prepared(name: str, limit: int) -> tuple[Graph, ModelSpec, CalibrationSet, EvaluationSet, Accuracy]:
    """The optimised network, `gznq` images of it, the evaluation images, and the float network's answers to them."""
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    raw, spec = capture_model(loaded), loaded.spec
    low, high = spec.channel_range()
    calibration = SYNTHESIZERS.get("gznq")(Request(raw, low, high, spec.classes, 32, 0, "fast"))
    images = load_images(spec.evaluation or "", spec, limit)
    assert isinstance(loaded.module, torch.nn.Module)
    before = evaluate(logits_function(loaded.module), images.batches(spec))
    return optimize(raw), spec, calibration, images, before


def rows(name: str, limit: int) -> list[str]:
    graph, spec, calibration, images, before = prepared(name, limit)
    lines = [f"| {name} | float | {before.top1:.1f} | | | | | |"]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "w8a8.tflite"
        for bits in BITS:
            frozen = quantize(graph, calibration, spec.input_range(), Scheme.of(bits))
            data = write_tflite(frozen)
            file = Path(folder) / f"{bits}.tflite"
            file.write_bytes(data)
            exact = verify_tflite(frozen, data, calibration.inputs[:EXACT])
            last = layer_errors(graph, frozen, calibration.inputs[:EXACT])[-1]
            after = evaluate(logits_function(LiteRTSession(file, kernels="builtin", threads=1)), images.batches(spec))
            lines.append(
                f"| {name} | {bits} | {after.top1:.1f} | {100 * agreement(before, after):.1f} | {last.sqnr_db:.1f} "
                f"| {len(data):,} | {exact.equal:,} of {exact.values:,} "
                f"| {ratio_text(time_pair(file, plain))} |"
            )
            print(lines[-1], flush=True)
    return lines


def structure(name: str) -> str:
    line = Line(SUBJECTS[name])
    decided = calibrate(line.graph, line.images, PIXELS, scheme=Scheme.of("w8a16"))
    frozen = freeze(line.graph, decided).graph
    data = write_tflite(frozen)
    exact, found = verify_tflite(frozen, data, line.images.inputs[:1]), census(data)
    counts = f"{found.float_ops} | {found.quantize + found.dequantize} | {found.transposes}"
    return f"| {name} | {exact.equal:,} of {exact.values:,} | {counts} |"


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    text = [
        "# 16-bit activations",
        "",
        "Printed by `benchmarks/bits16.py`: calibrated on 32 images of `gznq` (`fast`), first and last layer's weights",
        "of 8 bits, all stored as int8. Agreement: same argmax as the float network. Logits: their SQNR on calibration",
        "images. Time: in units of the w8a8 file's under XNNPACK, one thread, in turns, median of pairs and its 95 %",
        "interval; XNNPACK has no 16-bit kernels and leaves those files to LiteRT's own, which are plain loops.",
        "",
        f"Machine: {machine_line()}; commit {commit()}.",
        "",
        "| network | bits | top-1 | agreement | logits, dB | bytes | values equal to the reference | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, limit in NAMES.items():
        text += rows(name, limit)
    text += [
        "",
        "Structures in w8a16, weights random, one image of noise. TFLite's DEPTH_TO_SPACE has no 16-bit kernel, which",
        "costs transposed convolutions a TRANSPOSE each; channel shuffles are one at any width.",
        "",
        "| network | values equal to the reference | float ops | inner conversions | transposes |",
        "|---|---|---|---|---|",
    ]
    for name in STRUCTURES:
        text.append(structure(name))
        print(text[-1], flush=True)
    write_atomic(ROOT / "benchmarks" / "results" / "bits16.md", "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
