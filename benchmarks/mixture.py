"""Whether images of two kinds calibrate better than as many of one, judged by images of a third kind.

    python benchmarks/mixture.py --steps 160 --write     # prints, and writes benchmarks/results/mixture.md

Networks at w4a4, all layers, from 256 images each: `gznq`, `inversion`, and half of both; PTQ, and trained by ZAQ for
``--steps``. Judges are drawn by a ZS-CGAN generator, which no row has seen, and every one blended with another, half
and half, which leaves the network in doubt as photographs do. No image of any data takes part. The page holds the rows
of the run that wrote it.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from cases import COLUMNS, ROOT, commit, data_folder
from low_bit import FOLDER, calibration_set
from subjects import Subject, hardware
from torch import Tensor

from edgeq.cache import StageCache
from edgeq.files import write_atomic
from edgeq.finetune.loop import Job, finetune, hold_out
from edgeq.finetune.settings import settings_for
from edgeq.finetune.student import Student
from edgeq.graph.run import GraphModule
from edgeq.progress import Silent
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import equalize
from edgeq.quant.scheme import Scheme
from edgeq.synth.generatorfile import load_generator

KINDS = ("gznq", "inversion", "gznq+inversion")
JUDGES = 1024
SEEDS = {"resnet20": (0, 1, 2), "signs-mobilenetv2": (0,)}


@dataclasses.dataclass(frozen=True)
class Found:
    """Of the answers of a network of few bits: mean absolute difference of logits in units of the float network's,
    share answered as by it, and divergence of probabilities from the float network's."""

    gap: float
    alike: float
    divergence: float


def drawn(generator: Path) -> dict[str, Tensor]:
    """Images no row was calibrated on."""
    trained, random = load_generator(generator), torch.Generator().manual_seed(0)
    classes = trained.generator.classes
    one, other = (trained.draw(torch.randint(classes, (JUDGES,), generator=random), random) for _ in range(2))
    return {"drawn": one, "blended": (one + other) / 2}


@torch.no_grad()
def judged(student: Student, teacher: GraphModule, images: Tensor) -> Found:
    pairs = [(teacher(some), student(some)) for some in torch.split(images, 64)]
    of_teacher, of_student = (torch.cat(side) for side in zip(*pairs, strict=True))
    gap = (of_student - of_teacher).abs().mean() / of_teacher.abs().mean()
    alike = (of_student.argmax(1) == of_teacher.argmax(1)).float().mean()
    sure, seen = of_teacher.log_softmax(1), of_student.log_softmax(1)
    return Found(float(gap), float(alike), float((sure.exp() * (sure - seen)).sum(1).mean()))


def rows(name: str, kinds: Sequence[str], seeds: Sequence[int], steps: int, generator_effort: str) -> list[str]:
    """Lines of the table for one network."""
    subject, cache = Subject(COLUMNS[name]), StageCache(FOLDER / "cache", Silent())
    scheme, pixels = Scheme.of("w4a4", all_layers=True), subject.loaded.spec.input_range()
    _, generator, _ = calibration_set(subject, "zs-cgan", 0, generator_effort, 0, cache)
    assert generator is not None
    judges = drawn(generator)
    lines = []
    teacher = GraphModule(subject.graph).eval()
    ways = ("PTQ", f"ZAQ, {steps} steps") if steps else ("PTQ",)
    low, high = (torch.from_numpy(v) for v in subject.loaded.spec.channel_range())
    for kind in kinds:
        found: dict[tuple[str, str], list[Found]] = {(way, judge): [] for way in ways for judge in judges}
        for seed in seeds:
            images = calibration_set(subject, kind, seed, "balanced", 0, cache)[0]
            made_of = hold_out(images)[1]
            graph = equalize(subject.graph, made_of, pixels, scheme)
            decided = calibrate(graph, made_of, pixels, scheme=scheme)
            students = [Student(graph, decided)]
            if steps:
                settings = dataclasses.replace(settings_for("zaq", "balanced", subject.graph), steps=steps)
                job = Job(graph, subject.raw, decided, images, low, high, settings, seed)
                students.append(finetune(job).student)
            for way, student in zip(ways, students, strict=True):
                for judge, some in judges.items():
                    found[way, judge].append(judged(student.eval(), teacher, some))
        for way in ways:
            cells = [_cell([getattr(f, key) for f in found[way, judge]]) for judge in judges for key in _KEYS]
            lines.append(f"| {name} | {way} | {kind} | {len(seeds)} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


_KEYS = tuple(field.name for field in dataclasses.fields(Found))


def _cell(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(SEEDS), default=list(SEEDS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--steps", type=int, default=0, help="of ZAQ; 0: PTQ alone")
    parser.add_argument("--write", action="store_true", help="also write benchmarks/results/mixture.md")
    options = parser.parse_args()
    data_folder()
    lines = [
        "# Images of two kinds, and of one",
        "",
        "Printed by `benchmarks/mixture.py`. All layers w4a4, 256 images; no real image takes part. *Drawn*:",
        f"judged by {JUDGES} images of a ZS-CGAN generator; *blended*: by as many halves of two. *Gap*: mean absolute",
        "difference of logits in units of the float network's; *as float*: share of answers; *divergence*: of its",
        "probabilities, in nats.",
        "",
        f"Machine: {hardware()}; torch {torch.__version__}; commit {commit()}.",
        "",
        "| network | training | images | seeds | drawn: gap | as float | divergence | blended: gap | as float "
        "| divergence |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in options.networks:
        effort = "best" if name == "resnet20" else "balanced"
        lines += rows(name, options.kinds, SEEDS[name], options.steps, effort)
    if options.write:
        write_atomic(ROOT / "benchmarks" / "results" / "mixture.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
