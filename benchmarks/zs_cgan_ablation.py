"""One setting of ZS-CGAN's generator changed at a time, on ResNet-20: why the defaults are what they are.

Every row trains a generator for the same number of images and draws a set from it. The set is measured without any
photograph: how closely the batch norms' statistics match, how many first draws the network takes for another class, and
how far networks that were calibrated on the set are from the float network, on images that `gznq` made with another
seed. Rows are kept under build/ and only missing ones run; the table is printed and written.

    python benchmarks/zs_cgan_ablation.py [NAME ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from cases import COLUMNS, ROOT, ROWS, commit, data_folder
from latency import machine_line
from subjects import Subject
from torch import Tensor

from edgeq.cache import StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.finetune.student import Student
from edgeq.graph.run import GraphModule
from edgeq.progress import Silent
from edgeq.quant.calibrate import calibrate
from edgeq.quant.scheme import Scheme
from edgeq.synth.base import Request, balanced_labels
from edgeq.synth.gznq import gznq
from edgeq.synth.losses import gaussian_kl
from edgeq.synth.teacher import Teacher
from edgeq.synth.zs_cgan import Settings, sample, train

IMAGES, STEPS, BITS = 256, 300, ("w5a5", "w4a4")
BASE = Settings(steps=STEPS)
FOLDER = ROWS / "zs-cgan-ablation"
TABLE = ROOT / "benchmarks" / "results" / "zs_cgan_ablation.md"

EVERY: Mapping[str, Settings] = {
    "default": BASE,
    "rate 1e-3, class weight 1": replace(BASE, rate=1e-3, class_weight=1.0),
    "rate 1e-3": replace(BASE, rate=1e-3),
    "class weight 1": replace(BASE, class_weight=1.0),
    "class weight 0.01": replace(BASE, class_weight=0.01),
    "rate 1e-2": replace(BASE, rate=1e-2),
    "twice the width": replace(BASE, width=2 * BASE.width),
    "batches of 32, twice the steps": replace(BASE, batch=32, steps=2 * STEPS),
    "twice the steps": replace(BASE, steps=2 * STEPS),
    "wrong classes kept": replace(BASE, retries=0),
    "two entropies, no labels": replace(BASE, conditional=False),
}
"""Settings by the row's name."""


class _Bench:
    """The network, and images that judge what was calibrated on a generator's."""

    def __init__(self) -> None:
        self.subject = Subject(COLUMNS["resnet20"])
        self.spec = self.subject.loaded.spec
        judges = self._request(seed=77, effort="fast")

        def work(_: object, space: Workspace) -> dict[str, Any]:
            write_atomic(space.folder / "calibration.npz", gznq(judges).to_bytes())
            return {}

        parts = {"graph": self.subject.raw.digest(), "images": IMAGES}
        made = StageCache(FOLDER / "cache", Silent()).run("judges", parts, work)
        self.images = torch.from_numpy(CalibrationSet.load(made.files["calibration.npz"]).inputs)
        self.wanted = _answers(GraphModule(self.subject.graph).eval(), self.images)

    def _request(self, seed: int, effort: str) -> Request:
        low, high = self.spec.channel_range()
        return Request(self.subject.raw, low, high, self.spec.classes, IMAGES, seed, effort)

    def row(self, settings: Settings) -> dict[str, float]:
        started = time.process_time()
        trained = train(self._request(seed=0, effort="balanced"), settings)
        seconds = time.process_time() - started
        teacher, labels = Teacher(self.subject.raw), balanced_labels(IMAGES, self.spec.classes, 0)
        images, notes = sample(trained, teacher, labels, 0, settings.retries)
        with torch.no_grad():
            seen, _ = teacher.look(images)
            gaps = [gaussian_kl(seen[name], want).mean() for name, want in teacher.stored.items()]
        row = {"kl": float(torch.stack(gaps).mean()), "seconds": seconds, **notes}
        made = CalibrationSet(images.numpy(), labels.numpy(), "zs-cgan")
        for bits in BITS:
            scheme = Scheme.of(bits, all_layers=True)
            decided = calibrate(self.subject.graph, made, self.spec.input_range(), scheme=scheme)
            found = _answers(Student(self.subject.graph, decided).eval(), self.images)
            row[bits] = float((found - self.wanted).abs().mean() / self.wanted.abs().mean())
        return row


@torch.no_grad()
def _answers(network: torch.nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(some) for some in torch.split(images, 64)])


def main(names: list[str]) -> None:
    data_folder()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    bench: _Bench | None = None
    for name in names or EVERY:
        file = FOLDER / f"{name.replace(' ', '-').replace(',', '')}.json"
        if file.is_file() and json.loads(file.read_text())["settings"] == repr(EVERY[name]):
            continue
        bench = bench or _Bench()
        facts = {"name": name, "settings": repr(EVERY[name]), "commit": commit(), "machine": machine_line()}
        write_atomic(file, json.dumps(facts | bench.row(EVERY[name])) + "\n")
    rows = {row["name"]: row for row in (json.loads(file.read_text()) for file in FOLDER.glob("*.json"))}
    text = _table([rows[n] for n, s in EVERY.items() if n in rows and rows[n]["settings"] == repr(s)])
    print(text)
    write_atomic(TABLE, text)


def _table(rows: list[dict[str, Any]]) -> str:
    def values(key: str) -> str:
        return ", ".join(sorted({row[key] for row in rows}))

    head = [
        "# ZS-CGAN's generator, one setting changed at a time",
        "",
        "`python benchmarks/zs_cgan_ablation.py`",
        "",
        f"{IMAGES} images out of ResNet-20 (CIFAR-10), one thread, {STEPS} steps (a build has twice as many). KL: mean",
        "over channels and batch norms, of the images drawn. Rejected: share of first draws that the network takes for",
        "another class, and share left. Gap: mean absolute difference of logits to the float network's, in units of",
        f"those, of networks calibrated on the set (all layers, no training), on {IMAGES} images that `gznq` made with",
        "another seed. No photograph is read by any of this. Processor seconds, because the machine was shared.",
        "",
        f"Machine: {values('machine')}; commits {values('commit')}.",
        "",
        f"Defaults: `{BASE}`",
        "",
        "| setting | KL | rejected → left | gap w5a5 | gap w4a4 | processor s |",
        "|---|---|---|---|---|---|",
    ]
    body = [
        f"| {r['name']} | {r['kl']:.3f} | {100 * r['rejected']:.0f} % → {100 * r['wrong']:.0f} % "
        f"| {r['w5a5']:.3f} | {r['w4a4']:.3f} | {r['seconds']:.0f} |"
        for r in rows
    ]
    return "\n".join([*head, *body, ""])


if __name__ == "__main__":
    main(sys.argv[1:])
