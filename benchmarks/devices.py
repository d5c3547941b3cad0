"""The same file on emulated Arm processors and on this machine: ``python benchmarks/devices.py > results/devices.md``.

For every network, processor and runtime: accuracy there and here on the same images, and the share of output values
that are equal. The artifacts are those `benchmarks/build.py` left in `build/`, or are built now; the emulated Arm is
what ``edgeq device emulator --create`` made. It has no times: an emulator's mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import CASES, NETWORKS, ROOT, ROWS, commit, data_folder

from edgeq.config.build import BuildConfig
from edgeq.data.evaluation import load_images
from edgeq.device.open import open_device
from edgeq.measure.conditions import this_machine
from edgeq.model.load import load_model
from edgeq.pipeline.ondevice import eval_on, find_artifact, setup_for

PROCESSORS = {"cortex-a72": "Pi 4", "cortex-a76": "Pi 5"}
RUNTIMES = {"tflite-arm": ("litert", "tflite-runtime"), "onnx-arm": ("onnxruntime",)}


@dataclass(frozen=True)
class Row:
    """One network: which of its images in `cases` (None: a shipped model's own), how many are run, and what its
    artifact was calibrated on."""

    case: str
    images: str | None
    limit: int
    method: str

    @property
    def model(self) -> str:
        return self.case if self.images is None else str(NETWORKS / f"{self.case}.toml")

    @property
    def evaluation(self) -> str | None:
        return None if self.images is None else str(data_folder() / CASES[self.case].evaluations[self.images])


TABLE = (
    Row("resnet20", "lossless500", 200, "gznq"),
    Row("person-detect", "vww-500", 200, "gznq"),
    Row("mobilenetv2-folded", "val1000", 20, "images"),
    Row("scenes-segmenter", None, 100, "gznq"),
    Row("scenes-detector", None, 100, "gznq"),
)


def artifact(row: Row, target: str) -> Path:
    """The build's folder; what `benchmarks/build.py` has not left is built, synthesis at effort `fast`."""
    folder = ROWS / "artifacts" / f"{row.case}-{target}-{row.method}"
    if not folder.is_dir():
        from edgeq.pipeline.build import build

        method = f"images:{data_folder() / CASES[row.case].training}" if row.method == "images" else row.method
        build(
            BuildConfig(
                model=row.model,
                targets=(target,),
                method=method,
                effort="fast",
                evaluation=row.evaluation,
                eval_limit=row.limit,
                output=folder,
                cache=ROOT / ".edgeq-cache",
            )
        )
    return folder


def measure(row: Row, target: str, processor: str, runtime: str) -> dict[str, Any]:
    """One line of the table."""
    spec = load_model(row.model).spec
    images = load_images(row.evaluation or spec.evaluation or "", spec, row.limit)
    found = find_artifact(artifact(row, target))
    with open_device(f"emulator:{processor}", runtime=runtime, patience=600) as device:
        return eval_on(device, found, setup_for(found, runtime), spec, images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", help="these networks")
    only = parser.parse_args().only
    print("# Emulated Arm beside the host\n")
    print(
        f"`python benchmarks/devices.py`, commit {commit()}. Host: {this_machine().line}. The emulator is QEMU's user"
    )
    print("mode with Debian 12's arm64 Python and the aarch64 wheels. w8a8, every runtime with the kernels it takes by")
    print("itself. *Equal* is the share of output values that are those of the same runtime on the host; *same answer*")
    print("is of images, pixels or boxes.\n")
    print(
        "| network | calibrated on | processor | runtime there | images | score | there | here | same answer "
        "| equal | largest difference | equal to LiteRT here |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in TABLE:
        if only and row.case not in only:
            continue
        for target, runtimes in RUNTIMES.items():
            for processor in PROCESSORS:
                for runtime in runtimes:
                    print(f"{row.case} {target} {processor} {runtime}", file=sys.stderr)
                    print(_line(row, processor, measure(row, target, processor, runtime)), flush=True)


def _line(row: Row, processor: str, found: dict[str, Any]) -> str:
    outputs, litert = found["outputs"], found["outputs_litert"]
    other = ""
    if litert:
        other = f"{100 * litert['equal']:.2f} %, largest difference {litert['max_difference']:.3g}"
    largest = f"{outputs['max_difference']:.3g} {'steps' if outputs['integer'] else '(float)'}"
    there, here = found["device_accuracy"]["score"], found["host_accuracy"]["score"]
    return (
        f"| {row.case} | {row.method} | {processor} ({PROCESSORS[processor]}) | {found['runtime']} | {found['images']} "
        f"| {found['metric']} | {there:.1f} | {here:.1f} | {100 * found['agreement']:.2f} % "
        f"| {100 * outputs['equal']:.2f} % of {outputs['values']:,} | {largest} | {other} |"
    )


if __name__ == "__main__":
    main()
