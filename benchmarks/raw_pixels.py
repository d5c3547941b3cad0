"""What raw pixels as input cost: accuracy, answers, ops, bytes and time beside the same network fed normalised values.

    python benchmarks/raw_pixels.py            # prints, and writes benchmarks/results/raw_pixels.md

One network, one calibration set, two files a format: one fed normalised images, one fed the bytes of the pixels. Both
have uint8 inputs and outputs. The first is what an app uses that normalises and quantizes by itself; its time does not
contain that. Calibrated on 32 real training images, the shipped network on `gznq` (`fast`).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from cases import NETWORKS, ROOT, commit, data_folder
from latency import machine_line

from edgeq.config.targets import load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import calibration_from_images, load_images
from edgeq.files import write_atomic
from edgeq.formats.base import format_of
from edgeq.formats.session import Session
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.accuracy import Accuracy, agreement, evaluate, logits_function
from edgeq.model.load import LoadedModel, load_model
from edgeq.pipeline.prepare import capture_model
from edgeq.quant.input_transform import InputTransform, choose_raw_pixels, normalised_input
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.synth import SYNTHESIZERS, Request

TARGETS = ("tflite-arm", "onnx-x86")
EXACT = 4
"""Calibration images compared value by value."""
ROUNDS = 200
"""Pairs timed; the first tenth warms up."""


@dataclass(frozen=True)
class Subject:
    """`training`: images below the data folder to calibrate on; None for `gznq`. `limit`: evaluation images."""

    path: Path
    training: str | None
    limit: int


SUBJECTS = {
    "signs-mobilenetv2": Subject(ROOT / "models" / "signs-mobilenetv2" / "model.toml", None, 1000),
    "resnet20": Subject(NETWORKS / "resnet20-shifted.toml", "cifar10/train_0000_1999.npz", 1000),
    "mobilenetv1-0.25": Subject(NETWORKS / "mobilenetv1-0.25.toml", "imagenet_train250/labels.csv", 500),
    "squeezenet1.1": Subject(NETWORKS / "squeezenet1.1.toml", "imagenet_train250/labels.csv", 300),
}


def calibration(loaded: LoadedModel, raw: Graph, subject: Subject) -> CalibrationSet:
    if subject.training is not None:
        return calibration_from_images(data_folder() / subject.training, loaded.spec, 32)
    low, high = loaded.spec.channel_range()
    made: CalibrationSet = SYNTHESIZERS.get("gznq")(Request(raw, low, high, loaded.spec.classes, 32, 0, "fast"))
    return made


def rows(name: str, subject: Subject) -> list[str]:
    loaded = load_model(str(subject.path))
    raw, spec = capture_model(loaded), loaded.spec
    graph, images = optimize(raw), load_images(loaded.spec.evaluation or "", loaded.spec, subject.limit)
    given = calibration(loaded, raw, subject)
    assert isinstance(loaded.module, torch.nn.Module)
    before = evaluate(logits_function(loaded.module), images.batches(spec))
    lines = [f"| {name} | float | | {before.top1:.1f} | | | | | | | |"]
    for target in map(load_target, TARGETS):
        writer = format_of(target, 8)
        answered: list[Accuracy] = []
        files: list[Path] = []
        with tempfile.TemporaryDirectory() as folder:
            for input_transform in (normalised_input(spec), choose_raw_pixels(graph, spec, "uint8")):
                integer, fed = frozen(graph, given, input_transform)
                data = writer.write(integer, "uint8", "int8")
                files.append(Path(folder) / f"{input_transform.form}{writer.suffix}")
                files[-1].write_bytes(data)
                session = writer.open(files[-1], 1)
                answered.append(evaluate(logits_function(session), images.batches(input_transform.spec)))
                exact, census = writer.verify(integer, data, fed.inputs[:EXACT]), writer.census(data)
                sample = np.ascontiguousarray(fed.inputs[:1])
                ratio = cost(writer.open(files[0], 1), session, sample) if input_transform.raw else "1"
                lines.append(
                    f"| {name} | {target.name} | {input_transform.form} | {answered[-1].top1:.1f} "
                    f"| {100 * agreement(before, answered[-1]):.1f} | {100 * agreement(answered[0], answered[-1]):.1f} "
                    f"| {exact.equal:,} of {exact.values:,}, {exact.max_step} | {census.ops} "
                    f"| {input_transform.added_macs:,} | {len(data):,} | {ratio} |"
                )
                print(lines[-1], flush=True)
    return lines


def frozen(graph: Graph, given: CalibrationSet, input_transform: InputTransform) -> tuple[IntegerGraph, CalibrationSet]:
    """The integers of a build with this input_transform, and the images as its file takes them."""
    fed = input_transform.images(given)
    early = input_transform.form == "weights"
    limits = (input_transform.spec if early else input_transform.network).input_range()
    inner = input_transform.graph(graph)
    made = quantize(inner, fed if early else given, limits, Scheme.of("w8a8"))
    return input_transform.integers(made), fed


def cost(usual: Session, raw: Session, sample: npt.NDArray[np.float32]) -> str:
    """Ratio of processor times, which other work on the machine disturbs less than it does the clock's."""

    def spent(session: Session) -> float:
        started = time.thread_time()
        session.invoke()
        return time.thread_time() - started

    for session in (usual, raw):
        session.prepare(sample)
    ratios = [spent(raw) / spent(usual) for _ in range(ROUNDS)]
    low, middle, high = np.percentile(ratios[ROUNDS // 10 :], [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    text = [
        "# Raw pixels as input",
        "",
        "Printed by `benchmarks/raw_pixels.py`: w8a8, uint8 inputs and outputs, 32 calibration images (real training",
        "images; `gznq`, `fast`, for the shipped network). Per network and format two files: fed normalised images,",
        "and fed the bytes of the pixels; docs/reference/targets.md says what the forms are. To float, to normalised:",
        "share of images with that one's answer. Values: equal to the exact reference on 4 images, and the largest",
        "step. MACs: added. Time: in units of the normalised file's, which does not contain the app's normalising and",
        "quantizing; processor time of the one thread that runs, in turns, median of pairs and their quartiles.",
        "",
        f"Machine: {machine_line()}; commit {commit()}.",
        "",
        "| network | target | input | top-1 | to float | to normalised | values | ops | MACs | bytes | time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, subject in SUBJECTS.items():
        text += rows(name, subject)
    write_atomic(ROOT / "benchmarks" / "results" / "raw_pixels.md", "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
