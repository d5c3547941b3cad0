"""How closely images must fit the batch norms, and whether some should stay loose: GZNQ's iterations and `LOOSE`.

    python benchmarks/image_fit.py                                  # prints, and writes benchmarks/results/image_fit.md
    python benchmarks/image_fit.py --networks mobilenetv1-0.25 --fits 60+90 40+20

Sets of 32 images by `gznq` with so many coarse and fine iterations, all of them optimised or a quarter left as random
shapes, calibrate a network to w8a8. Images that had no part in it judge: by `gznq` with other seeds, by `inversion`,
and blends of two of each, of which the network is in doubt. No evaluation image is read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from cases import COLUMNS, ROOT, commit, data_folder
from subjects import Subject, hardware

from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.student import Student
from edgeq.graph.run import GraphModule
from edgeq.quant.quantize import decide
from edgeq.quant.scheme import Scheme
from edgeq.synth.base import Request, synthesize_by
from edgeq.synth.gznq import Settings, synthesize
from edgeq.synth.memory import keep_freed_memory

IMAGES, SEEDS, JUDGES = 32, (0, 1), 303
FITS = ("60+90", "40+40", "40+20", "30+10")
NETWORKS = ("signs-mobilenetv2", "resnet20", "person-detect")
PAGE = ROOT / "benchmarks" / "results" / "image_fit.md"

Images = npt.NDArray[np.float32]


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=COLUMNS)
    parser.add_argument("--fits", nargs="+", default=FITS, metavar="COARSE+FINE")
    options = parser.parse_args()
    data_folder()
    keep_freed_memory()
    torch.set_num_threads(1)
    lines = [
        "# How closely images fit, and how many stay loose",
        "",
        f"`python benchmarks/image_fit.py --networks {' '.join(options.networks)} --fits {' '.join(options.fits)}`",
        "",
        f"Machine: {hardware()}; one thread; torch {torch.__version__}; commit {commit()}.",
        "*Error*: squared difference of the integer network's outputs to the float network's, as a share of their",
        f"variance; *as float*: images with the float network's answer. Means of {len(SEEDS)} seeds, w8a8.",
        "",
        "| network | iterations, coarse + fine | loose | processor s | error: gznq | blends | inversion | blends "
        "| as float: blends of gznq | of inversion |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.networks:
        for line in rows(Subject(COLUMNS[name]), options.fits):
            print(line, flush=True)
            lines.append(line)
    Path(PAGE).write_text("\n".join(lines) + "\n")


def rows(subject: Subject, fits: list[str]) -> list[str]:
    """One line for each fit, with and without loose images."""
    judges = [_by_gznq(subject, JUDGES, "60+90", 0.0).inputs, _by_inversion(subject)]
    judges = [some for judge in judges for some in (judge, blends(judge))]
    float_network = GraphModule(subject.graph).eval()
    wanted = [answers(float_network, some) for some in judges]
    made = []
    for fit in fits:
        for loose in (0.25, 0.0):
            started = time.process_time()
            sets = [_by_gznq(subject, seed, fit, loose) for seed in SEEDS]
            seconds = (time.process_time() - started) / len(SEEDS)
            found = np.mean([judged(subject, images, judges, wanted) for images in sets], axis=0)
            errors = " | ".join(f"{error:.4f}" for error in found[:, 0])
            agreed = " | ".join(f"{100 * share:.1f} %" for share in found[1::2, 1])
            name = subject.column.name
            made.append(f"| {name} | {fit} | {loose:.0%} | {seconds:.0f} | {errors} | {agreed} |")
    return made


def judged(
    subject: Subject, images: CalibrationSet, judges: list[Images], wanted: list[torch.Tensor]
) -> list[list[float]]:
    """The error and the share answered as float, on each set of judges."""
    pixels, scheme = subject.loaded.spec.input_range(), Scheme.of("w8a8")
    decided = decide(subject.graph, images, pixels, scheme)
    student = Student(decided.graph, decided.calibration).eval()
    found = []
    for some, want in zip(judges, wanted, strict=True):
        have = answers(student, some)
        error = float((have - want).square().sum() / (want - want.mean(0)).square().sum())
        found.append([error, float((have.argmax(1) == want.argmax(1)).float().mean())])
    return found


@torch.no_grad()
def answers(network: torch.nn.Module, images: Images) -> torch.Tensor:
    """Outputs ``(N, classes)``, a few images at a time."""
    return torch.cat([network(some).flatten(1) for some in torch.split(torch.from_numpy(images), 16)])


def blends(images: Images) -> Images:
    """Each image with another showing through it, by 0.3 to 0.7."""
    random = np.random.default_rng(5)
    other = images[random.permutation(len(images))]
    share = random.uniform(0.3, 0.7, (len(images), 1, 1, 1)).astype(np.float32)
    return share * images + (1 - share) * other


def _request(subject: Subject, seed: int, effort: str = "fast") -> Request:
    spec = subject.loaded.spec
    low, high = spec.channel_range()
    return Request(graph=subject.raw, low=low, high=high, classes=spec.classes, images=IMAGES, seed=seed, effort=effort)


def _by_gznq(subject: Subject, seed: int, fit: str, loose: float) -> CalibrationSet:
    coarse, fine = (int(part) for part in fit.split("+"))
    return synthesize(_request(subject, seed), Settings(coarse=coarse, fine=fine, loose=loose), "gznq")


def _by_inversion(subject: Subject) -> Images:
    return synthesize_by("inversion", _request(subject, JUDGES)).inputs


if __name__ == "__main__":
    main()
