"""The same file on emulated Arm processors and on this machine: ``python benchmarks/devices.py > results/devices.md``.

For every network, processor and runtime: accuracy there and here on the same images, and the share of output values
that are equal. The artifacts are those `benchmarks/build.py` left in `build/`; the emulated Arm is what
``edgeq device emulator --create`` made. It has no times: an emulator's mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from cases import CASES, NETWORKS, ROWS, commit, data_folder

from edgeq.data.evaluation import load_images
from edgeq.device.open import open_device
from edgeq.measure.conditions import this_machine
from edgeq.pipeline.ondevice import eval_on, find_artifact, setup_for
from edgeq.zoo.load import load_model

PROCESSORS = {"cortex-a72": "Pi 4", "cortex-a76": "Pi 5"}
RUNTIMES = {"tflite-arm": ("litert", "tflite-runtime"), "onnx-arm": ("onnxruntime",)}


@dataclass(frozen=True)
class Row:
    """One network: what its images are called in `cases`, how many are run, and what its artifact was calibrated on."""

    case: str
    images: str
    limit: int
    method: str


TABLE = (
    Row("resnet20", "lossless500", 200, "gznq"),
    Row("person-detect", "vww-500", 200, "gznq"),
    Row("mobilenetv2-folded", "val1000", 20, "images"),
)


def measure(row: Row, target: str, processor: str, runtime: str) -> dict[str, Any] | None:
    """One cell of the table; None where the artifact has not been built."""
    folder = ROWS / "artifacts" / f"{row.case}-{target}-{row.method}"
    if not folder.is_dir():
        return None
    spec = load_model(str(NETWORKS / f"{row.case}.toml")).spec
    images = load_images(data_folder() / CASES[row.case].evaluations[row.images], spec, row.limit)
    artifact = find_artifact(folder)
    with open_device(f"emulator:{processor}", runtime=runtime, patience=600) as device:
        return eval_on(device, artifact, setup_for(artifact, runtime), spec, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="one network")
    only = parser.parse_args().only
    print("# Emulated Arm beside the host\n")
    print(
        f"`python benchmarks/devices.py`, commit {commit()}. Host: {this_machine().line}. The emulator is QEMU's user"
    )
    print("mode with Debian 12's arm64 Python and the aarch64 wheels. w8a8, every runtime with the kernels it takes by")
    print("itself. *Equal* is the share of output values that are those of the same runtime on the host.\n")
    print("| network | calibrated on | processor | runtime there | images | top-1 there | top-1 here | same answer "
          "| equal | largest difference | equal to LiteRT here |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in TABLE:
        if only and row.case != only:
            continue
        for target, runtimes in RUNTIMES.items():
            for processor, board in PROCESSORS.items():
                for runtime in runtimes:
                    print(f"{row.case} {target} {processor} {runtime}", file=sys.stderr)
                    found = measure(row, target, processor, runtime)
                    if found is None:
                        continue
                    outputs = found["outputs"]
                    litert = found["outputs_litert"]
                    other = (
                        f"{100 * litert['equal']:.2f} %, largest difference {litert['max_difference']:.3g}"
                        if litert
                        else ""
                    )
                    unit = "steps" if outputs["integer"] else "(float)"
                    print(
                        f"| {row.case} | {row.method} | {processor} ({board}) | {found['runtime']} | {found['images']} "
                        f"| {found['device_accuracy']['top1']:.1f} | {found['host_accuracy']['top1']:.1f} "
                        f"| {100 * found['agreement']:.1f} % | {100 * outputs['equal']:.2f} % of {outputs['values']:,} "
                        f"| {outputs['max_difference']:.3g} {unit} | {other} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
