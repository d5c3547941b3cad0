"""Trained networks with attention, and a detector of the YOLO family: what a plain `edgeq build` leaves of them.

    python benchmarks/attention_trained.py                      # builds what is missing, prints the page
    python benchmarks/attention_trained.py --write              # and writes benchmarks/results/attention_trained.md

`signs-vit` and `scenes-yolo` ship with edgeq. Test images are read after the files exist and choose nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cases import ROOT, ROWS, commit
from latency import machine_line

from edgeq.config.build import BuildConfig
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.measure.dense import Boxes, detection_score
from edgeq.model.load import load_model
from edgeq.model.pycode import import_callable
from edgeq.pipeline.build import build

FOLDER = ROWS / "attention_trained"
PAGE = ROOT / "benchmarks" / "results" / "attention_trained.md"
CLASSIFIER, DETECTOR = "signs-vit", "scenes-yolo"
TARGETS = ("tflite-arm", "onnx-x86")
LEAST_SCORE = 0.01
"""Boxes of a lower score do not count in a mean average precision."""


def main() -> None:
    """Build what is selected and missing, and print the page of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=(CLASSIFIER, DETECTOR), default=[CLASSIFIER, DETECTOR])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--write", action="store_true", help=f"also write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for network in options.networks:
            for target in TARGETS:
                keep(f"{network}--{target}--{seed}", lambda n=network, t=target, s=seed: plain(n, t, s))
    page = "\n".join(lines(json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))))
    print(page)
    if options.write:
        PAGE.write_text(page + "\n")


def keep(name: str, measure: Any) -> None:
    """Measure and keep a row; nothing where it is there already."""
    path = FOLDER / f"{name}.json"
    if path.exists():
        return
    started = time.process_time()
    row = measure() | {"commit": commit(), "machine": machine_line(), "processor": time.process_time() - started}
    path.write_text(json.dumps(row) + "\n")
    print(name, {key: row[key] for key in ("float", "integer", "agreement") if key in row}, flush=True)


def plain(network: str, target: str, seed: int) -> dict[str, Any]:
    """A build with every setting its default but target and seed, and its file's score on the test images."""
    folder = FOLDER / "builds" / f"{network}-{target}-{seed}"
    settings = BuildConfig(model=network, targets=(target,), seed=seed, output=folder, cache=FOLDER / f"cache-{seed}")
    report = build(settings)
    row = {"network": network, "target": target, "seed": seed, "method": report["synthesis"]["method"]}
    row |= {"exactness": report["exactness"]}
    if network == CLASSIFIER:
        accuracy = report["accuracy"]
        return row | {"float": accuracy["float"]["top1"], "integer": accuracy["integer"]["top1"]}
    return row | {"float": precision(network, None), "integer": precision(network, folder)}


def precision(network: str, folder: Path | None) -> float:
    """mAP at overlaps of 0.50 to 0.95, in percent, of the file in `folder`, or of the float network."""
    loaded = load_model(network)
    task, images = loaded.spec.dense, import_callable(loaded.spec.evaluation)()
    found = [task.detect(answer(loaded, folder, image), score=LEAST_SCORE)[0] for image in images[0]]
    return detection_score(found, [Boxes(*each) for each in images[1]], len(task.classes), None).score


_SESSIONS: dict[Path, Any] = {}


def answer(loaded: Any, folder: Path | None, image: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    """The outputs for one picture, of the file in `folder` in its own runtime, or of the float network."""
    x = loaded.spec.normalise(image[None])
    if folder is None:
        with torch.inference_mode():
            made = loaded.module.eval()(torch.from_numpy(x))
        return [each.numpy() for each in (made if isinstance(made, tuple) else (made,))]
    if folder not in _SESSIONS:
        tflite = folder / "model.tflite"
        _SESSIONS[folder] = LiteRTSession(tflite, channels=3) if tflite.exists() else OrtSession(folder / "model.onnx")
    return list(_SESSIONS[folder].run(x))


def lines(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The page."""
    known = list(rows)
    made = [
        "# Trained networks with attention, and a detector of the YOLO family",
        "",
        "Printed by `benchmarks/attention_trained.py`.",
        "",
        f"Machine: {'; '.join(sorted({row['machine'] for row in known}))}. "
        f"Commit: {', '.join(sorted({row['commit'] for row in known}))}.",
        "",
        "`edgeq build NETWORK --target TARGET --seed SEED`: w8a8, 32 images, no data. The file is run by its own",
        "runtime. Top-1 in percent of 2,000 test images (`signs-vit`); mAP at overlaps of 0.50 to 0.95 in percent of",
        "300 test scenes (`scenes-yolo`). *values equal*: those of all ops that equal the exact reference, first seed.",
        "",
        "| network | target | images by | seeds | float | integer | drop, points | drop of each seed | values equal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for network, target in dict.fromkeys((row["network"], row["target"]) for row in known):
        mine = [row for row in known if (row["network"], row["target"]) == (network, target)]
        tops, whole = np.array([row["integer"] for row in mine]), mine[0]["float"]
        drops = ", ".join(f"{whole - top:+.2f}" for top in tops)
        exact = mine[0]["exactness"]
        cells = (network, target, mine[0]["method"], len(mine), f"{whole:.2f}", f"{tops.mean():.2f} ± {tops.std():.2f}")
        last = (f"{whole - tops.mean():+.2f}", drops, f"{exact['equal']:,} of {exact['values']:,}")
        made.append(f"| {' | '.join(map(str, (*cells, *last)))} |")
    return made


if __name__ == "__main__":
    main()
