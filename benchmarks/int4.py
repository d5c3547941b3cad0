"""What 4-bit weights stored two a byte buy and cost in a TFLite file: bytes, time, and whether integers are the same.

    python benchmarks/int4.py            # prints, and writes benchmarks/results/int4.md

One network, one set of integers, two files that differ in the storage of weights alone. They are timed in turns, one
thread, on this machine; the ratio is the median over pairs. Calibrated on noise, because times do not depend on ranges.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from cases import NETWORKS, ROOT, commit, data_folder
from latency import machine_line, ratio_text, time_pair

from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.passes import optimize
from edgeq.integer.graph import IntegerGraph
from edgeq.model.load import load_model
from edgeq.pipeline.prepare import capture_model
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme

MODELS = {
    "resnet20": NETWORKS / "resnet20.toml",
    "mobilenetv1-0.25": NETWORKS / "mobilenetv1-0.25.toml",
    "mobilenetv2-folded": NETWORKS / "mobilenetv2-folded.toml",
    "signs-mobilenetv2": ROOT / "models" / "signs-mobilenetv2" / "model.toml",
}
KERNELS = ("xnnpack", "builtin")


def frozen(path: Path) -> tuple[IntegerGraph, CalibrationSet]:
    loaded = load_model(str(path))
    graph, spec = optimize(capture_model(loaded)), loaded.spec
    noise = np.random.default_rng(0).normal(0, 1, (4, *spec.input_shape)).astype(np.float32)
    images = CalibrationSet(np.clip(noise, *spec.input_range()), np.full(4, -1, np.int64), "noise")
    scheme = Scheme.of("w4a8")
    return freeze(graph, calibrate(graph, images, spec.input_range(), scheme=scheme, compensate=False)).graph, images


def main() -> None:
    data_folder()
    lines = [
        "# Weights of four bits, two a byte",
        "",
        "Printed by `benchmarks/int4.py`: w4a8, first and last layer 8 bits; one set of integers in two files. Time of",
        "the INT4 file in units of the int8 file's, one thread, in turns, median of pairs and its 95 % interval.",
        "",
        f"Machine: {machine_line()}; commit {commit()}.",
        "",
        "| network | int8 bytes | INT4 bytes | saved | values equal to the reference | XNNPACK: time | builtin: time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, path in MODELS.items():
        integer, images = frozen(path)
        plain, packed = write_tflite(integer), write_tflite(integer, weights="int4")
        exact = verify_tflite(integer, packed, images.inputs[:2])
        times = []
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / "int8.tflite", Path(folder) / "int4.tflite"]
            for file, data in zip(files, (plain, packed), strict=True):
                file.write_bytes(data)
            for kernels in KERNELS:
                times.append(ratio_text(time_pair(files[1], files[0], kernels=kernels)))
        lines.append(
            f"| {name} | {len(plain):,} | {len(packed):,} | {100 * (1 - len(packed) / len(plain)):.0f} % "
            f"| {exact.equal:,} of {exact.values:,} | {times[0]} | {times[1]} |"
        )
        print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    write_atomic(ROOT / "benchmarks" / "results" / "int4.md", text)


if __name__ == "__main__":
    main()
