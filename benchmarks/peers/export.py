"""Make edgeq's and the peers' files of the networks of `export_networks.py`, at the sizes people run them at:

    python benchmarks/peers/export.py [--networks mobilenet_v2 ...] [--again ours|litert|ort ...]

Every step (edgeq, the official PyTorch-to-TFLite converter, onnxruntime's quantizer) gets the same module with the same
random weights and the same four images, runs in a process of its own and is timed inside it, imports not counted, in
seconds of the processor. Other work on both cores makes those a third more and worse, so steps to be compared are to be
taken one after the other. A step is kept in ``build/peers_export/NETWORK/`` and not taken again, unless `--again` names
it; one that fails, or takes longer than a quarter of an hour, leaves its reason there. `peers_export.py` times the
files, `conversion.py` prints how long making them took.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cases import ROOT, commit
from export import IMAGES, PIXELS, noise
from export_networks import SUBJECTS, Subject, sane
from latency import machine_line

import edgeq.formats.onnx
import edgeq.formats.tflite  # noqa: F401 - what the writers load is not timed, as it is not with the converters
from edgeq.config.targets import load_target
from edgeq.errors import EdgeqError
from edgeq.formats.base import format_of
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.measure.conditions import this_machine
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

FOLDERS = ROOT / "build" / "peers_export"
HERE = Path(__file__).resolve().parent
PYTHON = ROOT / ".peers" / "venv" / "bin" / "python"
TARGETS = {"ours.tflite": "tflite-arm", "ours.onnx": "onnx-x86"}
"""Beside each of these files is its network in float, ``float.tflite`` and ``float.onnx``."""
STEPS = ("ours", "litert", "ort")
FILES = ("int8_nhwc", "int8_nchw")
SECONDS = 900
"""Of the processor, that a converter may take for a network."""

SIDES = {
    "inception_v3": 299,
    "lraspp_mobilenet_v3_large": 320,
    "deeplabv3_mobilenet_v3_large": 320,
    "ssdlite320_mobilenet_v3_large heads": 320,
    "U-Net, transposed convolutions": 128,
    "YOLO-style": 320,
}
"""Of the input, where it is neither 224 (classifiers of torchvision) nor the one size the network takes."""

ORDER = (
    "MLPerf Tiny ResNet-8",
    "MLPerf Tiny person detector",
    "MLPerf Tiny DS-CNN",
    "MLPerf Tiny autoencoder",
    "face recogniser, PReLU",
    "mobilenet_v3_small",
    "YOLO-style",
    "U-Net, transposed convolutions",
    "mobilenet_v2",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "mnasnet1_0",
    "resnet18",
    "mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "regnet_y_400mf",
    "ssdlite320_mobilenet_v3_large heads",
    "googlenet",
    "deeplabv3_mobilenet_v3_large",
    "efficientnet_v2_s",
    "resnet50",
    "densenet121",
    "inception_v3",
    "convnext_tiny",
    "vgg11",
    "vgg11_bn",
)
"""Quick ones first."""


def subject_of(name: str) -> Subject:
    """The network at the size people run it at."""
    subject = SUBJECTS[name]
    builtin = subject.name[0].isupper() or subject.name.startswith("face")
    side = SIDES.get(name, None if builtin else 224)
    return subject if side is None else replace(subject, shape=(3, side, side))


def folder_of(name: str) -> Path:
    return FOLDERS / re.sub(r"[^\w.]+", "-", name)


def make_ours(name: str) -> dict[str, Any]:
    """Write edgeq's files and the converters' input (``network.pt2``, ``calibration.npy``); processor seconds of all.

    What the first `torch.export` of a process loads is counted apart, as ``load_seconds``: the official converter
    loads the same while it is imported.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)  # slopes of a PReLU, say, which `sane` leaves as they are made
    subject, folder = subject_of(name), folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    images, module = noise(subject), sane(subject.make(), subject.shape)
    record: dict[str, Any] = {"network": name, "shape": subject.shape, "images": IMAGES, "commit": commit()}
    record["machine"] = machine_line()
    started = time.process_time()
    capture(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), (3, 8, 8), "first")
    gc.collect()  # what loading left behind, which would else be looked through in the middle of a small network
    record["load_seconds"] = time.process_time() - started
    started = time.process_time()
    try:
        graph = optimize(capture(module, subject.shape, "network"))
        captured = record["capture_seconds"] = time.process_time() - started
        for file, target_name in TARGETS.items():
            target = load_target(target_name)
            bits = target.bits_of_weights(vnni=this_machine().vnni)
            began = time.process_time()
            integer = quantize(graph, images, PIXELS, Scheme.of("w8a8", widest=bits))
            frozen = time.process_time()
            data = format_of(target, bits).write(integer, target.io, target.narrow_weights)
            written = time.process_time()
            (folder / file).write_bytes(data)
            record[file] = {
                "calibrate_seconds": frozen - began,
                "write_seconds": written - frozen,
                "seconds": captured + written - began,
            }
            (folder / file.replace("ours", "float")).write_bytes(format_of(target, bits).write_float(graph))
    except EdgeqError as error:
        record["failed"] = ": ".join(part for part in (error.where, error.what, error.why) if part)
    np.save(folder / "calibration.npy", images.inputs)
    with torch.no_grad():
        torch.export.save(torch.export.export(module, (torch.from_numpy(images.inputs[:1]),)), folder / "network.pt2")
    return record


def ours(name: str) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(make_ours, name).result()


def theirs(name: str, script: str, kept: Path, *arguments: str) -> dict[str, Any]:
    """Run one of the converters' scripts; what it noted in `kept`, and how it ended if that was not well."""
    folder = folder_of(name)
    log = folder / f"{script}.log"
    command = [str(PYTHON), str(HERE / script), str(folder), *arguments]
    kept.unlink(missing_ok=True)
    with log.open("w") as file:
        status = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, check=False, preexec_fn=_limited
        ).returncode
    failed = _error(log)
    if status < 0:
        stopped = status == -signal.SIGXCPU
        failed = f"took longer than {SECONDS} s" if stopped else f"killed by {signal.Signals(-status).name}"
    record: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    return record if status == 0 else record | {"failed": failed}


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 10))


def _error(log: Path) -> str:
    """The first line of the error a process ended with, out of what it printed."""
    lines = [
        line for line in log.read_text(errors="replace").splitlines() if re.match(r"[\w.]+(Error|Exception)\b", line)
    ]
    return lines[-1][:300] if lines else "no error was printed"


def run(name: str, step: str, files: Sequence[str]) -> dict[str, Any]:
    folder = folder_of(name)
    if step == "ours":
        return ours(name)
    if step == "ort":
        return theirs(name, "convert_onnx.py", folder / "ort.json")
    return theirs(name, "convert_litert.py", folder / "litert.json", "--files", *files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ORDER, default=ORDER, metavar="NAME")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--again", nargs="+", choices=STEPS, default=[], help="steps to take although they are there")
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES, help="of the official converter")
    options = parser.parse_args()
    if not PYTHON.exists():
        subprocess.run(["sh", str(HERE / "setup.sh")], check=True)
    for name in options.networks:
        folder = folder_of(name)
        folder.mkdir(parents=True, exist_ok=True)
        for step in options.steps:
            done = folder / f"{step}-done.json"
            if done.exists() and step not in options.again:
                continue
            record = run(name, step, options.files)
            done.write_text(json.dumps(record, indent=2) + "\n")
            print(f"{name}: {step} {record.get('failed', 'done')}", flush=True)


if __name__ == "__main__":
    main()
