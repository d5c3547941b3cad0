"""Segmentation and detection, exported without data: mIoU of the street-scene segmenter, boxes of the face detector.

    python benchmarks/dense.py [--bits w8a8 w4a8] [--images 3] [--finetune kd] [--effort fast] [--print]

Builds each network for TFLite and for ONNX on x86, runs the files with their own runtimes, and writes one JSON per cell
below build/dense/; a cell that is there is not run again. `--print` writes benchmarks/results/dense.md from them.
Calibration images come out of the network (`gznq`); labelled images are read after the files exist.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from cases import NETWORKS, ROOT, commit, data_folder
from latency import machine_line
from PIL import Image

from edgeq.config.build import BuildConfig
from edgeq.decode import detect, matched, priors
from edgeq.runtime.litert import LiteRTSession
from edgeq.runtime.ort import OrtSession
from edgeq.zoo.load import load_model
from edgeq.zoo.torchvision import import_torchvision

CELLS = ROOT / "build" / "dense"
RESULTS = ROOT / "benchmarks" / "results" / "dense.md"
TARGETS = ("tflite-arm", "onnx-x86")
UNLABELLED = 11
MAPS = ((30, 40), (15, 20), (8, 10), (4, 5))
ANCHORS = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
SCORE, OVERLAP = 0.7, 0.3
"""What the detector's reference boxes were made with."""

Pixels = npt.NDArray[np.uint8]
Arrays = list[npt.NDArray[Any]]
Answer = Callable[[npt.NDArray[np.float32]], Arrays]


def answers(network: str, target: str, folder: Path | None) -> tuple[Any, Answer]:
    """The network's spec, and what answers a normalised image: the float network, or the file in `folder`."""
    loaded = load_model(str(NETWORKS / f"{network}.toml"))
    if folder is None:
        module = loaded.module.eval()

        def run(x: npt.NDArray[np.float32]) -> Arrays:
            with torch.inference_mode():
                made = module(torch.from_numpy(x))
            return [y.numpy() for y in (made if isinstance(made, tuple) else (made,))]

        return loaded.spec, run
    if target.startswith("tflite"):
        return loaded.spec, LiteRTSession(folder / "model.tflite", channels=3).run
    return loaded.spec, OrtSession(folder / "model.onnx").run


def street_scenes() -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
    """The 78 images and labels, rows 4 to 355."""
    root = data_folder() / "camvid"
    for path in sorted((root / "images").glob("*.png")):
        label = np.asarray(Image.open(root / "labels" / path.name)).astype(np.int64)
        yield np.asarray(Image.open(path).convert("RGB"))[4:356], label[4:356]


def segmentation(spec: Any, answer: Answer) -> dict[str, float]:
    """mIoU in percent, from the counts of all images together; unlabelled pixels left out."""
    import_torchvision()  # torchmetrics imports it, which fails beside a CPU torch unless this came first
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(spec.classes, ignore_index=UNLABELLED)
    images = 0
    for image, label in street_scenes():
        logits = torch.from_numpy(np.asarray(answer(spec.normalise(image[None]))[0], np.float32))
        found = F.interpolate(logits, label.shape, mode="bilinear", align_corners=False).argmax(1)
        metric.update(found, torch.from_numpy(label)[None])
        images += 1
    return {"score": 100 * float(metric.compute()), "n": images}


def detection(spec: Any, answer: Answer, whole: Answer) -> dict[str, float]:
    """Share, in percent, of the float network's boxes that have a partner at IoU 0.5, and how many are found at all."""
    anchors = priors((240, 320), MAPS, ANCHORS)
    total = found = hits = images = 0
    for path in sorted((data_folder() / "face_detection" / "images").glob("*.png")):
        x = spec.normalise(np.asarray(Image.open(path).convert("RGB"))[None])
        reference, ours = (_boxes(run(x), anchors) for run in (whole, answer))
        total, found, hits = total + len(reference), found + len(ours), hits + matched(ours, reference)
        images += 1
    return {"score": 100 * hits / total, "n": images, "reference": total, "found": found}


def _boxes(outputs: Arrays, anchors: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    logits, deltas = sorted(outputs, key=lambda rows: rows.shape[-1])
    return detect(logits[0], deltas[0], anchors, score=SCORE, overlap=OVERLAP).boxes


def cell(network: str, target: str, bits: str, options: argparse.Namespace) -> dict[str, Any]:
    """Build, measure, and keep."""
    from edgeq.pipeline.build import build

    images, tuning, effort = options.images, options.finetune, options.effort
    how = "" if tuning == "none" or bits == "float" else f"-{tuning}"
    path = CELLS / f"{network}-{target}-{bits}{how}-{effort}-{images}.json"
    if path.exists():
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    started = time.monotonic()
    row: dict[str, Any] = {"network": network, "target": target, "bits": bits, "commit": commit()}
    folder = None
    if bits != "float":
        folder = CELLS / f"{network}-{target}-{bits}{how}"
        report = build(
            BuildConfig(
                model=str(NETWORKS / f"{network}.toml"), targets=(target,), method="gznq", images=images, bits=bits,
                effort=effort, finetune=tuning, output=folder, cache=ROOT / ".edgeq-cache",
            )
        )  # fmt: skip
        row |= {"exactness": report["exactness"], "census": report["census"], "finetune": report.get("finetune")}
        row |= {"images": report["synthesis"]["images"], "effort": effort}
    spec, answer = answers(network, target, folder)
    if spec.task == "segmentation":
        row |= segmentation(spec, answer)
    else:
        row |= detection(spec, answer, answers(network, target, None)[1])
    row["seconds"] = time.monotonic() - started
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row))
    print(json.dumps({k: row[k] for k in row if k not in ("exactness", "census")}), flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line per network, width and format."""
    lines = [
        "# Segmentation and detection, exported without data",
        "",
        "mIoU of 78 CamVid test images for the segmenter; for the face detector the share of the float network's boxes",
        "(24 images, no ground truth) with a partner at IoU 0.5. Percent.",
        "",
        f"Printed by `benchmarks/dense.py` on {machine_line()}.",
        "",
        "| network | bits | target | images | fine-tuned | score | exactness | boxes, float / file | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        exact = row.get("exactness") or {}
        equal = f"{exact.get('equal', 0):,} of {exact.get('values', 0):,}" if exact else "-"
        boxes = f"{row['reference']} / {row['found']}" if "reference" in row else "-"
        tuned = row.get("finetune")
        how = f"{tuned['method']}, {tuned['steps']:.0f} steps, {tuned['seconds'] / 60:.0f} min" if tuned else "-"
        lines.append(
            f"| {row['network']} | {row['bits']} | {row['target']} | {row.get('images', '-')} | {how} "
            f"| {row['score']:.1f} | {equal} | {boxes} | {row['commit']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["face-detector", "camvid-segmenter"])
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w4a8"])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--effort", choices=("fast", "balanced", "best"), default="fast")
    parser.add_argument("--finetune", choices=("none", "kd"), default="none")
    parser.add_argument("--print", action="store_true", dest="printing", help="only print what cells there are")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.printing:
        for network in options.networks:
            cell(network, "torch", "float", options)
            for bits in options.bits:
                for target in options.targets:
                    cell(network, target, bits, options)
    rows = [json.loads(path.read_text()) for path in sorted(CELLS.glob("*.json"))]
    text = table(rows)
    print(text)
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
