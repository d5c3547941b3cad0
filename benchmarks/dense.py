"""Segmentation and detection, exported without data: two networks trained elsewhere, and the two of `models/`.

    python benchmarks/dense.py [--bits w8a8 w4a8] [--images 3] [--finetune kd] [--effort fast] [--print]

Builds each network for TFLite and for ONNX on x86, runs the files with their own runtimes, and writes one JSON per cell
below build/dense/; a cell that is there is not run again. `--print` writes benchmarks/results/dense.md from them.
Calibration images come out of the network (`gznq`); labelled images are read after the files exist.
mIoU for segmenters, mAP for the detector whose boxes are known, agreement with the float network for the other.
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
from cases import NETWORKS, ROOT, commit, data_folder
from latency import machine_line
from PIL import Image

from edgeq.config.build import BuildConfig
from edgeq.decode import count_matches, detect, priors
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run as run_reference
from edgeq.measure.dense import Boxes, detection_score, segmentation_score
from edgeq.model.load import load_model
from edgeq.model.pycode import import_callable

CELLS = ROOT / "build" / "dense"
RESULTS = ROOT / "benchmarks" / "results" / "dense.md"
TARGETS = ("tflite-arm", "onnx-x86")
SCENES = ROOT / "models" / "scenes" / "scenes.py"
UNLABELLED = 11
MAPS = ((30, 40), (15, 20), (8, 10), (4, 5))
ANCHORS = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
SCORE, OVERLAP = 0.7, 0.3
"""What the detector's reference boxes were made with."""

Pixels = npt.NDArray[np.uint8]
Arrays = list[npt.NDArray[Any]]
Answer = Callable[[npt.NDArray[np.float32]], Arrays]


def model_of(network: str) -> str:
    """What `edgeq build` is told: a file of `benchmarks/networks/`, or the name of a shipped network."""
    path = NETWORKS / f"{network}.toml"
    return str(path) if path.exists() else network


def answers(network: str, target: str, folder: Path | None) -> tuple[Any, Answer]:
    """The network's spec, and what answers a normalised image: the float network, or what is in `folder`."""
    loaded = load_model(model_of(network))
    if folder is None:
        module = loaded.module.eval()

        def run(x: npt.NDArray[np.float32]) -> Arrays:
            with torch.inference_mode():
                made = module(torch.from_numpy(x))
            return [y.numpy() for y in (made if isinstance(made, tuple) else (made,))]

        return loaded.spec, run
    if IntegerGraph.load(folder / "integer.safetensors").narrow():
        return loaded.spec, confined(folder)
    return loaded.spec, of_file(target, folder)


def of_file(target: str, folder: Path) -> Answer:
    """What the file in `folder` answers in its own runtime."""
    if target.startswith("tflite"):
        return LiteRTSession(folder / "model.tflite", channels=3).run
    return OrtSession(folder / "model.onnx").run


def confined(folder: Path) -> Answer:
    """What the exact reference answers where activations have fewer than eight bits, to which no runtime saturates."""
    integer = IntegerGraph.load(folder / "integer.safetensors")
    (entry,), grids = integer.inputs, integer.quantizations

    def run(x: npt.NDArray[np.float32]) -> Arrays:
        values = run_reference(integer, grids[entry].quantize(x))
        return [grids[end].dequantize(values[end]) for end in integer.outputs]

    return run


def street_scenes() -> Iterator[tuple[Pixels, npt.NDArray[np.int64]]]:
    """The 78 images and labels, rows 4 to 355."""
    root = data_folder() / "camvid"
    for path in sorted((root / "images").glob("*.png")):
        label = np.asarray(Image.open(root / "labels" / path.name)).astype(np.int64)
        yield np.asarray(Image.open(path).convert("RGB"))[4:356], label[4:356]


def segmentation(spec: Any, answer: Answer) -> dict[str, float]:
    """mIoU in percent, from the counts of all images together; unlabelled pixels left out."""
    labelled, ignore = street_scenes(), UNLABELLED
    if spec.dense is not None:
        labelled, ignore = zip(*import_callable(f"{SCENES}:segmentation")(), strict=True), spec.dense.ignore
    kept = list(labelled)
    logits = (answer(spec.normalise(image[None]))[0] for image, _ in kept)
    made = segmentation_score(logits, (mask[None] for _, mask in kept), spec.classes, ignore)
    return {"score": made.score, "n": made.n}


def average_precision(spec: Any, answer: Answer) -> dict[str, float]:
    """mAP at an overlap of 0.5, in percent; boxes there are, and boxes found at the task's own score."""
    images, there = import_callable(f"{SCENES}:detection")()
    truth = [Boxes(boxes, labels) for boxes, labels in there]
    anchors = spec.dense.anchors(spec.input_shape[1:])
    found = [spec.dense.detect(answer(spec.normalise(image[None])), anchors, score=0.01)[0] for image in images]
    made = detection_score(found, truth, len(spec.dense.classes))
    sure = sum(int((each.scores > spec.dense.score).sum()) for each in found)
    return {"score": made.score, "n": made.n, "reference": sum(len(each.labels) for each in truth), "found": sure}


def detection(spec: Any, answer: Answer, whole: Answer) -> dict[str, float]:
    """Share, in percent, of the float network's boxes that have a partner at IoU 0.5, and how many are found at all."""
    anchors = priors((240, 320), MAPS, ANCHORS)
    total = found = hits = images = 0
    for path in sorted((data_folder() / "face_detection" / "images").glob("*.png")):
        x = spec.normalise(np.asarray(Image.open(path).convert("RGB"))[None])
        reference, ours = (_boxes(run(x), anchors) for run in (whole, answer))
        total, found, hits = total + len(reference), found + len(ours), hits + count_matches(ours, reference)
        images += 1
    return {"score": 100 * hits / total, "n": images, "reference": total, "found": found}


def _boxes(outputs: Arrays, anchors: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    logits, deltas = sorted(outputs, key=lambda rows: rows.shape[-1])
    return detect(logits[0], deltas[0], anchors, score=SCORE, overlap=OVERLAP).boxes


def scored(network: str, spec: Any, answer: Answer) -> dict[str, float]:
    """The measure of this network's task."""
    if spec.task == "segmentation":
        return segmentation(spec, answer)
    if spec.dense is not None:
        return average_precision(spec, answer)
    return detection(spec, answer, answers(network, "torch", None)[1])


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
                model=model_of(network),
                targets=(target,),
                method="gznq",
                images=images,
                bits=bits,
                effort=effort,
                finetune=tuning,
                output=folder,
                cache=ROOT / ".edgeq-cache",
            )
        )
        row |= {"exactness": report["exactness"], "census": report["census"], "finetune": report.get("finetune")}
        row |= {"images": report["synthesis"]["images"], "effort": effort}
        row |= {"simulated": report["simulated"]} if "simulated" in report else {}
    spec, answer = answers(network, target, folder)
    row |= scored(network, spec, answer)
    if "simulated" in row:
        row["of_file"] = scored(network, spec, of_file(target, folder))["score"]
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
        "mIoU of 78 CamVid test images for that segmenter; for the face detector the share of the float network's",
        "boxes (24 images, no ground truth) with a partner at IoU 0.5. The scene networks of `models/` on 300 scenes",
        "rendered by seed: mIoU, and mAP at IoU 0.5. Percent. Boxes are counted above each detector's own score; the",
        "reference is the float network's for faces, those that are there for scenes. Activations of fewer than eight",
        "bits are simulated by the exact reference, because no runtime saturates there (docs/how-to/bits.md): that is",
        "the score, and what the file itself computes stands in brackets.",
        "",
        f"Printed by `benchmarks/dense.py` on {machine_line()}.",
        "",
        "| network | bits | target | images | fine-tuned | score | exactness | boxes, reference / found | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        exact = row.get("exactness") or {}
        equal = f"{exact.get('equal', 0):,} of {exact.get('values', 0):,}" if exact else "-"
        boxes = f"{row['reference']} / {row['found']}" if "reference" in row else "-"
        of_file = f" (file {row['of_file']:.1f})" if "of_file" in row else ""
        tuned = row.get("finetune")
        how = f"{tuned['method']}, {tuned['steps']:.0f} steps, {tuned['seconds'] / 60:.0f} min" if tuned else "-"
        lines.append(
            f"| {row['network']} | {row['bits']} | {row['target']} | {row.get('images') or '-'} | {how} "
            f"| {row['score']:.1f}{of_file} | {equal} | {boxes} | {row['commit']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", default=["scenes-detector", "scenes-segmenter", "face-detector", "camvid-segmenter"]
    )
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
