"""Below eight bits: what fine-tuning without data wins back, against the same budget spent otherwise.

    python benchmarks/low_bit.py                                    # whatever is missing, then the table
    python benchmarks/low_bit.py --networks resnet20 --bits w4a4 --methods ptq zaq noise --effort fast
    python benchmarks/low_bit.py --table --write                    # measure nothing; write benchmarks/results

A cell is a network, bits, a method, a seed and an effort: one JSON under ``build/low_bit``, finished or not there. All
layers have the few bits (the papers' convention) unless ``--edges``. Every evaluation image is answered by the fake-
quantized network in torch, and an evenly spaced part by the exact reference of the frozen integers; the table has both,
the share of images on which they agree, and the share answered as by the float network. `ABLATION` are cells that
change one default each. The page keeps its sections of networks and bits that have no cell here, as they were printed.
``--images-by images`` are real training images: what fine-tuning would give whoever may touch them.
Where CUDA is, images are made and students trained there; such cells have a section of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import COLUMNS, ROOT, commit, data_folder
from low_bit_table import results
from subjects import REAL, Subject, float_answers, forget_peak, hardware, peak_memory, real_images

from edgeq.cache import StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import EdgeqError, MeasurementError
from edgeq.files import write_atomic
from edgeq.finetune.budget import batch_for
from edgeq.finetune.loop import Job, finetune, hold_out
from edgeq.finetune.precision import training_device, whole_float32
from edgeq.finetune.settings import Settings, settings_for
from edgeq.finetune.sources import Drawn, Source
from edgeq.finetune.student import Learned, Student, agreement
from edgeq.integer.storage import reference_run
from edgeq.measure.accuracy import evaluate, logits_function
from edgeq.pipeline.choices import choose_method
from edgeq.progress import Silent
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import equalize
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from edgeq.synth import Request, synthesizer_of
from edgeq.synth.generatorfile import GENERATOR, load_generator
from edgeq.versions import package_versions

FOLDER = ROOT / "build" / "low_bit"
RESULTS = ROOT / "benchmarks" / "results" / "low_bit.md"
DEVICE = training_device()
IMAGES = 320
"""Of which 64 judge a training, and 256 make it; PTQ has the same 256, so that training starts where PTQ stands. Large
networks have five batches, as in a build. ``--images`` asks for other numbers."""
NETWORKS = ("resnet20", "signs-mobilenetv2", "signs-fixup", "mobilenetv1-0.25")
BITS = ("w5a5", "w4a4")
MORE = ROOT / "benchmarks" / "many_signs.py:evaluation"
METHODS = ("ptq-nearest", "ptq", "ptq-zs-cgan", "noise", "kd", "zs-cgan", "dfq-akd", "zaq")
"""`ptq` trains nothing; nor does `ptq-nearest`, whose weights take their nearest integers and whose channels are not
equalized, as in most tools. `noise` distils on Gaussian noise; `kd` on the calibration images. Every row starts from
the same calibration images, except for `zs-cgan` and `ptq-zs-cgan`: those have images of its generator, and `zs-cgan`
distils on fresh ones. Their generator trains at `best`, the others' images are made at `balanced`."""

ABLATION: Mapping[str, Mapping[str, Any]] = {
    "paper form": {"anchor": 0.0, "block_weight": 0.0, "relative": False, "leash": 0.0, "relaxed": 0.0},
    "weights rounded from the start": {"relaxed": 0.0},
    "settled weights trained": {"hold": False},
    "no leash": {"leash": 0.0},
    "no block reconstruction": {"block_weight": 0.0},
    "generator alone": {"anchor": 0.0, "leash": 0.0},
    "no blends": {"blend": 0.0},
    "absolute L1": {"relative": False},
    "steps of activations frozen": {"learned": Learned(activation_steps=False)},
    "steps of weights frozen": {"learned": Learned(weight_steps=False)},
    "weights frozen": {"learned": Learned(weights=False)},
    "attention relation": {"relation": "attention"},
    "omega softmax": {"omega": "softmax"},
    "omega inverse": {"omega": "inverse"},
    "no relation": {"feature_weight": 0.0},
}
"""Of ZAQ; ``--ablation`` runs them."""


class Noise:
    """Gaussian noise of the network's normalisation, afresh each step: the literature's baseline."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def images(self, count: int, random: torch.Generator) -> torch.Tensor:
        return torch.randn((count, *self._shape), generator=random)


def calibration_set(
    subject: Subject, method: str, seed: int, effort: str, asked: int, cache: StageCache
) -> tuple[CalibrationSet, Path | None, float]:
    """Images, `asked` or as many as a build has, the generator that drew them if one did, and the seconds it took."""
    spec = subject.loaded.spec
    low, high = spec.channel_range()
    count = asked or min(IMAGES, 5 * batch_for(subject.graph))
    parts = {"graph": subject.raw.digest(), "method": method, "seed": seed, "effort": effort, "images": count}
    parts |= {"device": DEVICE.type} if DEVICE.type != "cpu" else {}

    def work(_: object, space: Workspace) -> Mapping[str, Any]:
        if method == REAL:
            write_atomic(space.folder / "calibration.npz", real_images(subject, count, seed).to_bytes())
            return {}
        request = Request(
            subject.raw, low, high, spec.classes, count, seed, effort, products=space.folder, device=DEVICE
        )
        with whole_float32():
            write_atomic(space.folder / "calibration.npz", synthesizer_of(method)(request).to_bytes())
        return {}

    made = cache.run("synthesize", parts, work)
    return CalibrationSet.load(made.files["calibration.npz"]), made.files.get(GENERATOR), made.seconds


def measure(subject: Subject, float_predictions: Sequence[int], student: Student) -> dict[str, Any]:
    """Answers of the student to every image, of the reference to a part, and how well they and the float's agree."""
    integer = freeze(*student.frozen()).graph
    places = [int(i) for i in np.linspace(0, len(subject.evaluation) - 1, subject.column.reference).round()]
    # On the processor: a GPU's float sums are not the integers' to the last bit, and values near a tie then differ.
    whole = evaluate(logits_function(student.eval().cpu()), subject.evaluation.batches(subject.loaded.spec))
    exact = subject.answers(reference_run(integer), places)
    return {
        "top1": whole.top1,
        "n": whole.n,
        "predictions": whole.predictions.tolist(),
        "exact_top1": exact.top1,
        "exact_n": exact.n,
        "same_part_top1": float(100 * np.mean(whole.predictions[places] == exact.labels)),
        "agree": float(np.mean(whole.predictions[places] == exact.predictions)),
        "as_float": float(np.mean(whole.predictions == np.array(float_predictions))),
    }


def measure_cell(
    subject: Subject, bits: str, method: str, seed: int, options: argparse.Namespace, variant: str
) -> dict[str, Any]:
    cache = StageCache(FOLDER / "cache", Silent())
    spec, graph = subject.loaded.spec, subject.graph
    own = method in ("zs-cgan", "ptq-zs-cgan")
    asked_by = "zs-cgan" if own else options.images_by
    images_by = REAL if asked_by == REAL else choose_method(asked_by, subject.raw)[0]
    images_effort = options.generator_effort if own else options.images_effort
    images, generator, image_seconds = calibration_set(subject, images_by, seed, images_effort, options.images, cache)
    scheme = Scheme.of(bits, all_layers=not options.edges)
    known = float_answers(subject, cache)
    row: dict[str, Any] = {
        "network": subject.column.name,
        "bits": bits,
        "method": method,
        "variant": variant,
        "seed": seed,
        "effort": options.effort,
        "steps": options.steps,
        "all_layers": not options.edges,
        "device": DEVICE.type,
        "asked_images": options.images,
        "asked_images_by": "" if options.images_by == "auto" else options.images_by,
        "judges": len(hold_out(images)[0]),
        "images": len(hold_out(images)[1]),
        "images_by": images_by,
        "image_seconds": image_seconds,
        "float": float(100 * np.mean(np.array(known["predictions"]) == np.array(known["labels"]))),
        "commit": commit(),
        "machine": hardware(),
        "threads": torch.get_num_threads(),
        "packages": package_versions(("torch", "numpy")),
    }
    made_of, plain = hold_out(images)[1], method == "ptq-nearest"
    if not plain:
        graph = equalize(graph, made_of, spec.input_range(), scheme)
    decided = calibrate(graph, made_of, spec.input_range(), scheme=scheme, compensate=not plain)
    if method.startswith("ptq"):
        return row | measure(subject, known["predictions"], Student(graph, decided))
    settings = settings_for(method if method in ("zaq", "dfq-akd") else "kd", options.effort, graph)
    settings = dataclasses.replace(settings, **ABLATION.get(variant, {}))
    if options.steps:
        settings = dataclasses.replace(settings, steps=options.steps)
    source: Source | None = None
    if method == "noise":
        source = Noise(spec.input_shape)
    if generator is not None:
        trained = load_generator(generator)
        source = Drawn(trained.generator, trained.pixel)
    low, high = (torch.from_numpy(v) for v in spec.channel_range())
    cell = cell_path(options, row["network"], bits, method, seed, variant)
    scratch = FOLDER / "unfinished" / cell.parent.name / cell.stem  # a run of other steps or bits is another run
    if options.again:
        shutil.rmtree(scratch, ignore_errors=True)  # or what was trained before would only be measured again
    forget_peak()
    started = time.monotonic()
    job = Job(graph, subject.raw, decided, images, low, high, settings, seed, source, checkpoint=scratch)
    try:
        done = finetune(job)
    except MeasurementError as error:
        return row | {"failed": error.what, "n": len(subject.evaluation)}
    row |= {"seconds": time.monotonic() - started, "peak_mib": peak_memory(), "settings": _plain(settings)}
    row |= {"facts": dict(done.facts), "curves": {k: v[:: max(1, len(v) // 100)] for k, v in done.curves.items()}}
    frozen = freeze(done.graph, done.decided).graph
    row["agreement"] = dataclasses.asdict(agreement(done.student, frozen, images.inputs[:32]))
    shutil.rmtree(scratch, ignore_errors=True)
    return row | measure(subject, known["predictions"], done.student)


def _plain(settings: Settings) -> dict[str, Any]:
    return dataclasses.asdict(settings)


def cell_path(options: argparse.Namespace, network: str, bits: str, method: str, seed: int, variant: str) -> Path:
    parts = [network, bits, method, *([variant.replace(" ", "-")] if variant else []), str(seed)]
    effort = f"{options.effort}{options.steps or ''}{'-edges' if options.edges else ''}"
    effort += f"-{options.images}-images" if options.images else ""
    effort += "" if options.images_by == "auto" else f"-{options.images_by}"
    effort += f"-{DEVICE.type}" if DEVICE.type != "cpu" else ""
    return FOLDER / effort / f"{'--'.join(parts)}.json"


def run_cells(options: argparse.Namespace) -> list[str]:
    """Measure what is selected and missing; names of cells that failed."""
    failed = []
    variants = [("zaq", name) for name in ABLATION] if options.ablation else [(name, "") for name in options.methods]
    for network in options.networks:
        column = COLUMNS[network]
        if options.exact:
            column = dataclasses.replace(column, reference=options.exact)
        if column.evaluation is None:  # rendered, so there can be enough of them
            column = dataclasses.replace(column, evaluation=str(MORE))
        subject = Subject(column)
        for seed in options.seeds:
            for bits in options.bits:
                for method, variant in variants:
                    path = cell_path(options, network, bits, method, seed, variant)
                    if path.exists() and not options.again:
                        continue
                    print(path.stem, file=sys.stderr, flush=True)
                    try:
                        row = measure_cell(subject, bits, method, seed, options, variant)
                    except EdgeqError as error:
                        print(f"  {error}", file=sys.stderr)
                        failed.append(path.stem)
                        continue
                    said = row.get("failed") or f"{row['top1']:.2f} %, float {row['float']:.2f} %"
                    print(f"  {said}", file=sys.stderr, flush=True)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(path, json.dumps(row) + "\n")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(COLUMNS), default=list(NETWORKS))
    parser.add_argument("--bits", nargs="+", default=list(BITS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--effort", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--images-effort", choices=("fast", "balanced", "best"), default="balanced")
    parser.add_argument("--generator-effort", choices=("fast", "balanced", "best"), default="best", help="ZS-CGAN's")
    parser.add_argument("--steps", type=int, default=0, help="steps in place of the effort's")
    parser.add_argument("--images", type=int, default=0, help="calibration images in place of a build's")
    parser.add_argument(
        "--images-by",
        default="auto",
        help=f"method, in place of what a build takes; {REAL}: training images, as if they were there",
    )
    parser.add_argument("--exact", type=int, help="images the exact reference answers, in place of each network's")
    parser.add_argument("--edges", action="store_true", help="first and last layer at 8 bits")
    parser.add_argument("--ablation", action="store_true", help="ZAQ with one default changed each")
    parser.add_argument("--again", action="store_true", help="selected cells anew, whatever is there")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/low_bit.md")
    options = parser.parse_args()
    data_folder()
    failed = [] if options.table else run_cells(options)
    rows = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/*.json"))]
    text = results(rows, RESULTS.read_text() if RESULTS.exists() else "")
    print(text)
    if options.write:
        write_atomic(RESULTS, text)
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
