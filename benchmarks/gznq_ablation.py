"""One setting of GZNQ changed at a time, on ResNet-20: why the defaults are what they are.

Every row makes the same number of labelled CIFAR-10 images and measures them without any photograph: how closely the
batch norms' statistics match, how many images the network itself does not take for their class, and what networks that
had no part in making them take them for (transfer). ResNet-32 is a deeper relative; ResNet-8 is another architecture by
other people, fed raw pixels. Rows are kept under build/ and only missing ones run; the table is printed and written.

    python benchmarks/gznq_ablation.py [NAME ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import NETWORKS, ROOT, ROWS, data_folder

from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.model.load import LoadedModel, load_model
from edgeq.synth.base import Request
from edgeq.synth.gznq import Settings, generator_settings, settings_for, synthesize
from edgeq.synth.losses import squared_gaps
from edgeq.synth.sheet import contact_sheet, pixels
from edgeq.synth.teacher import Teacher

IMAGES = 50
BASE, GENERATOR = settings_for("balanced"), generator_settings("balanced")
ONE_STAGE = replace(BASE, coarse=0, fine=BASE.fine + BASE.coarse // 4)
FOLDER = ROWS / "gznq-ablation"
TABLE = ROOT / "benchmarks" / "results" / "gznq_ablation.md"


def _pull(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, pull=replace(settings.pull, **changes))


ROWS_OF: Mapping[str, tuple[Settings, int]] = {
    "default": (BASE, 0),
    "default, seed 1": (BASE, 1),
    "default, seed 2": (BASE, 2),
    "effort fast": (settings_for("fast"), 0),
    "effort best": (settings_for("best"), 0),
    "no pyramid, no coarse stage, no colour axes": (replace(ONE_STAGE, depth=1, chroma=1.0), 0),
    "no pyramid, no coarse stage": (replace(ONE_STAGE, depth=1), 0),
    "pyramid of 3": (replace(BASE, depth=3), 0),
    "no colour axes": (replace(BASE, chroma=1.0), 0),
    "no coarse stage, as many passes": (ONE_STAGE, 0),
    "no shift, no flip": (_pull(BASE, shift=0.0, flip=False), 0),
    "shift 0.12": (_pull(BASE, shift=0.12), 0),
    "class weight 0.2": (_pull(BASE, class_weight=0.2), 0),
    "class weight 3": (_pull(BASE, class_weight=3.0), 0),
    "no class loss": (_pull(BASE, class_weight=0.0), 0),
    "no statistics loss": (_pull(BASE, statistics_weight=0.0), 0),
    "no total variation": (_pull(BASE, variation_weight=0.0), 0),
    "total variation x 3": (_pull(BASE, variation_weight=3 * BASE.pull.variation_weight), 0),
    "no size penalty": (_pull(BASE, size_weight=0.0), 0),
    "size penalty x 5": (_pull(BASE, size_weight=5 * BASE.pull.size_weight), 0),
    "rate x 2": (_pull(BASE, rate=2 * BASE.pull.rate), 0),
    "rate / 2": (_pull(BASE, rate=BASE.pull.rate / 2), 0),
    "low-pass, sigma 0.7": (_pull(BASE, smooth=0.7), 0),
    "swing convolution": (replace(BASE, swung=not BASE.swung), 0),
    "teachers of 4, 6, 8 bits": (replace(BASE, teacher_bits=(4, 6, 8)), 0),
    "batches of 25": (replace(BASE, batch=25), 0),
    "batches of 25, set's moments": (replace(BASE, batch=25, aggregate=True), 0),
    "stall test, windows of 10": (_pull(BASE, patience=10), 0),
    "generator": (GENERATOR, 0),
    "generator, seed 1": (GENERATOR, 1),
    "generator, no swing": (replace(GENERATOR, swung=False), 0),
    "generator, half the width": (replace(GENERATOR, width=GENERATOR.width // 2), 0),
}
"""Settings and seed by the row's name."""

FROM_RESNET8: Mapping[str, tuple[Settings, int]] = {
    f"ResNet-8: {name}, seed {seed}": (settings, seed)
    for seed in (0, 1, 2)
    for name, settings in {
        "default (half-size network first)": BASE,
        "coarse canvas enlarged": replace(BASE, small=False),
        "no coarse stage, as many passes": ONE_STAGE,
    }.items()
}
"""Images out of ResNet-8: ResNet-20's shortcuts insist on their size, so it says nothing about a half-size network."""

EVERY = {**ROWS_OF, **FROM_RESNET8}


def _network(name: str) -> tuple[LoadedModel, Graph]:
    loaded = load_model(str(NETWORKS / f"{name}.toml"))
    return loaded, capture(loaded.module, loaded.spec.input_shape, loaded.spec.name)


class _Bench:
    """The network images are made from and those that judge them."""

    def __init__(self, source: str) -> None:
        self.source, self.graph = _network(source)
        self.judges = {name: _network(name) for name in ("resnet8", "resnet20", "resnet32") if name != source}

    def row(self, settings: Settings, seed: int, sheet: str) -> dict[str, float]:
        spec = self.source.spec
        low, high = spec.channel_range()
        request = Request(graph=self.graph, low=low, high=high, classes=spec.classes, images=IMAGES, seed=seed)
        wall, processor = time.monotonic(), time.process_time()
        made = synthesize(request, settings, "gznq")
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        teacher = Teacher(self.graph)
        finished = teacher.measure_moments(torch.from_numpy(made.inputs))
        shown = pixels(made, spec.mean, spec.std)
        (FOLDER / f"{sheet}.png").write_bytes(contact_sheet(made, spec.mean, spec.std))
        transfer = {}
        for name, (judge, graph) in self.judges.items():
            with torch.no_grad():
                answers = GraphModule(graph).eval()(torch.from_numpy(judge.spec.normalise(shown)))
            transfer[name] = 100 * float(np.mean(answers.flatten(1).argmax(1).numpy() == made.labels))
        gap = float(squared_gaps(finished.moments, teacher.stored))
        return {"gap": gap, **made.notes, **transfer, "seconds": wall, "processor": processor}


def _digest(settings: Settings, seed: int) -> str:
    return f"{settings!r} {seed} {IMAGES}"


def main(names: list[str]) -> None:
    data_folder()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    benches: dict[str, _Bench] = {}
    for name in names or EVERY:
        settings, seed = EVERY[name]
        file = FOLDER / f"{name.replace(' ', '-').replace(',', '').replace('/', 'by').replace(':', '')}.json"
        if file.is_file() and json.loads(file.read_text())["settings"] == _digest(settings, seed):
            continue
        source = "resnet8" if name in FROM_RESNET8 else "resnet20"
        if source not in benches:
            benches[source] = _Bench(source)
        row = benches[source].row(settings, seed, file.stem)
        file.write_text(json.dumps({"name": name, "settings": _digest(settings, seed), **row}))
        print(f"{name:52s} gap {row['gap']:.3f}, to ResNet-32 {row['resnet32']:.0f} %", flush=True)
    rows = {row["name"]: row for row in (json.loads(file.read_text()) for file in FOLDER.glob("*.json"))}
    known = [rows[name] for name, (s, n) in EVERY.items() if name in rows and rows[name]["settings"] == _digest(s, n)]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(_table(known))


def _table(rows: list[dict[str, Any]]) -> str:
    head = [
        "# GZNQ, one setting changed at a time",
        "",
        "`python benchmarks/gznq_ablation.py`",
        "",
        f"{IMAGES} images of ten classes out of ResNet-20 (CIFAR-10), one thread. Gap: mean over layers and channels",
        "of the squared differences of mean and variance, in units of the stored variance. Rejected: share the network",
        "itself took for another class before remaking, and after. Transfer: share that networks with no part in the",
        "synthesis take for the intended class; one image is two points, and the defaults' own seeds show how far",
        "chance goes. No photograph is read by any of this. Processor seconds, because the machine was shared.",
        "",
        f"Defaults: `{BASE}`",
        "",
        f"Generator: `{GENERATOR}`",
        "",
        "| setting | gap | rejected → left | iterations | to ResNet-8 % | to ResNet-32 % | processor s |",
        "|---|---|---|---|---|---|---|",
    ]
    foreign = [
        f"| {r['name']} | {r['gap']:.3f} | {r['iterations']:.0f} | {r['resnet20']:.0f} | {r['resnet32']:.0f} "
        f"| {r['processor']:.0f} |"
        for r in rows
        if r["name"] in FROM_RESNET8
    ]
    second = [
        "",
        "## A network whose coarse stage runs at half size",
        "",
        "| images out of | gap | iterations | to ResNet-20 % | to ResNet-32 % | processor s |",
        "|---|---|---|---|---|---|",
    ]
    body = [
        f"| {r['name']} | {r['gap']:.3f} | {100 * r['rejected']:.0f} % → {100 * r['wrong']:.0f} % "
        f"| {r['iterations']:.0f} | {r['resnet8']:.0f} | {r['resnet32']:.0f} | {r['processor']:.0f} |"
        for r in rows
        if r["name"] in ROWS_OF
    ]
    return "\n".join([*head, *body, *second, *foreign, ""])


if __name__ == "__main__":
    main(sys.argv[1:])
