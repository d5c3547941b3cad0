"""Do images of one network mean anything to another? Transfer of every method's images out of ResNet-20.

    python benchmarks/transfer.py            # prints, and writes benchmarks/results/transfer.md

Methods that deal a class to every image are judged by the share that networks with no part in the synthesis take for
that class. The others have no intended class: for them, and for all, the share on which a judge gives the source's own
answer is printed, with how many different answers there are (a set that everybody takes for one class agrees, too).
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from cases import COLUMNS, ROOT, commit, data_folder
from latency import machine_line
from subjects import REAL, Subject, real_images
from zero_shot import all_methods

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.files import write_atomic
from edgeq.graph.run import GraphModule
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.synth.sheet import contact_sheet, pixels

SOURCE, JUDGES = "resnet20", ("resnet8", "resnet32")
IMAGES, SEEDS = 50, (0, 1, 2)
SHEETS = ROOT / "build" / "transfer"


def _answers(subject: Subject, shown: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    inputs = torch.from_numpy(subject.loaded.spec.normalise(shown))
    with torch.no_grad():
        found: np.ndarray[Any, Any] = GraphModule(subject.raw)(inputs).flatten(1).argmax(1).numpy()
    return found


def measure(source: Subject, judges: dict[str, Subject], method: str, seed: int) -> dict[str, float]:
    """Percentages of one method and seed; ``intended`` ones only where the images have classes."""
    spec = source.loaded.spec
    low, high = spec.channel_range()
    started = time.process_time()
    made = (
        CalibrationSet(real_images(source, 32, seed).inputs, np.full(32, -1, np.int64), REAL)
        if method == REAL
        else SYNTHESIZERS.get(method)(Request(source.raw, low, high, spec.classes, IMAGES, seed))
    )
    row: dict[str, float] = {"processor": time.process_time() - started}
    shown = pixels(made, spec.mean, spec.std)
    if seed == SEEDS[0]:
        write_atomic(SHEETS / f"{method}.png", contact_sheet(made, spec.mean, spec.std))
    own = _answers(source, shown)
    row["answers"] = float(len(set(own.tolist())))
    for name, judge in judges.items():
        theirs = _answers(judge, shown)
        row[f"agree {name}"] = 100 * float(np.mean(theirs == own))
        dealt = made.labels >= 0  # some methods leave a part of their images without a class
        if dealt.any():
            row[f"intended {name}"] = 100 * float(np.mean(theirs[dealt] == made.labels[dealt]))
    return row


def _cell(rows: list[dict[str, float]], key: str, form: str = "{:.0f}") -> str:
    values = [row[key] for row in rows if key in row]
    return form.format(statistics.fmean(values)) if values else "no classes"


def main() -> None:
    torch.set_num_threads(1)
    data_folder()
    SHEETS.mkdir(parents=True, exist_ok=True)
    source, judges = Subject(COLUMNS[SOURCE]), {name: Subject(COLUMNS[name]) for name in JUDGES}
    lines = [
        "# Transfer: what images of ResNet-20 mean to other networks",
        "",
        "`python benchmarks/transfer.py`",
        "",
        f"{IMAGES} images of ten classes (32 of the real ones), default effort, mean of seeds "
        f"{', '.join(map(str, SEEDS))}; {machine_line()}; commit {commit()}. Intended: share that a network with no "
        "part in the synthesis takes for the class the image was dealt. Agree: where it gives ResNet-20's own answer, "
        "intended or not; beside it the number of different answers ResNet-20 gives, of ten.",
        "",
        "| images from | intended, ResNet-8 % | intended, ResNet-32 % | agree, ResNet-8 % | agree, ResNet-32 % "
        "| answers | processor s |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in all_methods():
        try:
            rows = [measure(source, judges, method, seed) for seed in SEEDS]
        except UnsupportedError as error:
            print(f"{method}: {error.why}", file=sys.stderr)
            continue
        keys = [f"{kind} {name}" for kind in ("intended", "agree") for name in JUDGES]
        cells = [*(_cell(rows, key) for key in keys), _cell(rows, "answers", "{:.1f}"), _cell(rows, "processor")]
        lines.append(f"| {method} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    write_atomic(ROOT / "benchmarks" / "results" / "transfer.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
