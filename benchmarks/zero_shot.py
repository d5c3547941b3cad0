"""One protocol for every way of making calibration images: same quantizer, same number of images, same measurement.

    python benchmarks/zero_shot.py                                  # whatever is missing, then the table
    python benchmarks/zero_shot.py --networks resnet20 --methods noise images gznq --effort fast
    python benchmarks/zero_shot.py --table --write                  # measure nothing; write benchmarks/results

A cell is a network, a method and a seed, at every bit width: one JSON under ``build/zero_shot/EFFORT``, finished or not
there. Its images are made once and calibrate all bit widths. Where activations have 8 bits the exported .tflite is what
answers (LiteRT, XNNPACK); below that no runtime can, and the integer reference answers an evenly spaced part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cases import COLUMNS, ROOT, commit, data_folder
from latency import machine_line
from subjects import REAL, Subject, float_answers, forget_peak, peak_memory, real_images
from zero_shot_table import results

from edgeq.cache import StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.files import write_atomic
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.writer import write_tflite
from edgeq.integer.storage import reference_run
from edgeq.measure.accuracy import logits_function
from edgeq.progress import Silent
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.versions import package_versions

FOLDER = ROOT / "build" / "zero_shot"
BITS = ("w8a8", "w6a6", "w4a8")
SEEDS = (0, 1, 2)
IMAGES = 32


def all_methods() -> list[str]:
    """What knows nothing, what knows everything, then every registered synthesizer."""
    first = ["noise", "uniform", REAL]
    return first + [name for name in SYNTHESIZERS if name not in first]


def make_images(
    subject: Subject, method: str, seed: int, effort: str, cache: StageCache
) -> tuple[CalibrationSet, dict[str, Any]]:
    """Calibration images, and what making them took: seconds, and the process's peak memory meanwhile in MiB."""
    spec = subject.loaded.spec
    low, high = spec.channel_range()
    request = Request(subject.raw, low, high, spec.classes, IMAGES, seed, effort)  # no checkpoint: seconds are whole
    parts = {
        "graph": subject.raw.digest(),
        "method": method,
        "seed": seed,
        "effort": effort,
        "images": IMAGES,
        "range": [low.tolist(), high.tolist()],
        "training": subject.column.training,
        "code": _code(),
        "threads": torch.get_num_threads(),
    }

    def work(_: object, space: Workspace) -> Mapping[str, Any]:
        forget_peak()
        made = real_images(subject, IMAGES, seed) if method == REAL else SYNTHESIZERS.get(method)(request)
        peak = peak_memory()
        write_atomic(space.folder / "calibration.npz", made.to_bytes())
        return {"peak_mib": peak, "sha256": made.digest(), "made": len(made)}

    result = cache.run("synthesize", parts, work)
    made = CalibrationSet.load(result.files["calibration.npz"])
    return made, {"seconds": result.seconds, **result.facts}


def _code() -> str:
    """A digest of the synthesizers' sources: images of older code are not taken for images of this one."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "edgeq" / "synth").glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def answer(subject: Subject, calibration: CalibrationSet, bits: str, *, all_layers: bool) -> dict[str, Any]:
    """Calibrate and freeze at these bits, and answer: by the exported file where one can, else by the reference."""
    scheme = Scheme.of(bits, all_layers=all_layers)
    integer = quantize(subject.graph, calibration, subject.loaded.spec.input_range(), scheme)
    places = subject.places(bits)
    if scheme.activation_bits == 8:
        session = LiteRTSession(write_tflite(integer), kernels="xnnpack", threads=1)
        run, by = logits_function(session), session.runtime
    else:
        run, by = reference_run(integer), "reference"
    found = subject.answers(run, places)
    return {"by": by, "n": found.n, "top1": found.top1, "predictions": found.predictions.tolist(), "places": places}


def cell_path(arguments: argparse.Namespace, network: str, method: str, seed: int) -> Path:
    convention = "-all-layers" if arguments.all_layers else ""
    return FOLDER / f"{arguments.effort}{convention}" / f"{network}--{method}--{seed}.json"


def measure_cell(
    arguments: argparse.Namespace, subject: Subject, method: str, seed: int, cache: StageCache
) -> dict[str, Any]:
    """Everything about one network, method and seed. A method that cannot work on the network says why."""
    row: dict[str, Any] = {
        "network": subject.column.name,
        "method": method,
        "seed": seed,
        "effort": arguments.effort,
        "all_layers": arguments.all_layers,
        "images": IMAGES,
        "float": float_answers(subject, cache),
        "commit": commit(),
        "machine": machine_line(),
        "threads": torch.get_num_threads(),
        "packages": package_versions(("torch", "numpy", "ai-edge-litert")),
    }
    try:
        calibration, cost = make_images(subject, method, seed, arguments.effort, cache)
    except UnsupportedError as error:
        return row | {"refused": error.why or error.what}
    answers = {}
    for bits in BITS:
        answers[bits] = answer(subject, calibration, bits, all_layers=arguments.all_layers)
        print(f"  {bits} {answers[bits]['top1']:.2f} %", file=sys.stderr, flush=True)
    return row | cost | {"answers": answers}


def run_cells(arguments: argparse.Namespace) -> list[str]:
    """Measure what is selected and missing; names of cells that failed."""
    failed = []
    forced = frozenset({"synthesize"}) if arguments.again else frozenset[str]()
    cache = StageCache(FOLDER / "cache", Silent(), forced)
    for network in arguments.networks:
        subject = Subject(COLUMNS[network], arguments.reference_images)
        for seed in arguments.seeds:
            for method in arguments.methods:
                path = cell_path(arguments, network, method, seed)
                if path.exists() and not arguments.again:
                    continue
                print(path.stem, file=sys.stderr, flush=True)
                try:
                    row = measure_cell(arguments, subject, method, seed, cache)
                except EdgeqError as error:
                    print(f"  {error}", file=sys.stderr)
                    failed.append(path.stem)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, json.dumps(row) + "\n")
    return failed


def main() -> None:
    methods = all_methods()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(COLUMNS), default=list(COLUMNS))
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--effort", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--all-layers", action="store_true", help="few bits in the first and last layer too")
    parser.add_argument("--reference-images", type=int, help="images the reference answers, in place of each network's")
    parser.add_argument("--again", action="store_true", help="selected cells anew, whatever is there")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/zero_shot_EFFORT.md")
    arguments = parser.parse_args()
    data_folder()
    failed = [] if arguments.table else run_cells(arguments)
    folder = cell_path(arguments, "", "", 0).parent
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    rows = [row for row in rows if row["network"] in arguments.networks]
    text = results(rows, arguments.networks, methods, BITS)
    print(text)
    if arguments.write:
        write_atomic(ROOT / "benchmarks" / "results" / f"zero_shot_{arguments.effort}.md", text)
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
