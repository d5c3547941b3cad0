"""From how many bits on weights may go to their nearest integers: `edgeq.quant.rounding.COMPENSATED`.

    python benchmarks/compensation.py            # prints, and writes benchmarks/results/compensation.md

The PTQ networks of `low_bit.py`, all layers, activations of 8 bits, calibrated on the same images; weights rounded
together (`round_layer`) and each to its nearest integer, biases corrected in both. No training. The gap on synthetic
images and the time decide; evaluation images are only reported.
"""

from __future__ import annotations

import dataclasses
import time
from unittest import mock

import numpy as np
import torch
from cases import COLUMNS, ROOT, commit, data_folder
from latency import machine_line
from low_bit import FOLDER, MORE, calibration_set
from zero_shot import Subject, float_answers

from edgeq.cache import StageCache
from edgeq.files import write_atomic
from edgeq.finetune.loop import held_out
from edgeq.finetune.student import Student
from edgeq.graph.run import GraphModule
from edgeq.measure.accuracy import evaluate, runner
from edgeq.pipeline.synthesis import choose_method
from edgeq.progress import Silent
from edgeq.quant import lockstep
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate

NETWORKS = ("resnet20", "signs-mobilenetv2", "signs-fixup")
BITS = ("w7a8", "w6a8")


def rows_of(name: str) -> list[str]:
    column = COLUMNS[name]
    if column.evaluation is None:
        column = dataclasses.replace(column, evaluation=str(MORE))
    subject, cache = Subject(column), StageCache(FOLDER / "cache", Silent())
    images, _, _ = calibration_set(subject, choose_method("auto", subject.raw)[0], 0, "balanced", cache)
    held, made_of = held_out(images)
    known = float_answers(subject, cache)
    exact = float(100 * np.mean(np.array(known["predictions"]) == np.array(known["labels"])))
    teacher, rows = GraphModule(subject.graph).eval(), []
    for bits in BITS:
        for label, compensate in (("together", True), ("nearest", False)):
            started = time.process_time()
            with mock.patch.object(lockstep, "COMPENSATED", 7):
                decided = calibrate(
                    subject.graph, made_of, subject.loaded.spec.input_range(),
                    scheme=Scheme.of(bits, all_layers=True), compensate=compensate,
                )  # fmt: skip
            seconds = time.process_time() - started
            student = Student(subject.graph, decided).eval()
            with torch.no_grad():
                inputs = torch.from_numpy(held.inputs)
                gap = float((student(inputs) - teacher(inputs)).abs().mean())
            whole = evaluate(runner(student), subject.evaluation.batches(subject.loaded.spec))
            alike = float(100 * np.mean(whole.predictions == np.array(known["predictions"])))
            rows.append(
                f"| {name} | {bits} | {label} | {whole.top1:.2f} of {exact:.2f} ({whole.n:,}) | {alike:.2f} % "
                f"| {gap:.4f} | {seconds:.1f} |"
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    data_folder()
    lines = [
        "# Weights rounded together, and each to its nearest integer", "",
        "Printed by `benchmarks/compensation.py`. All layers, activations of 8 bits, no training. *As float*: share of",
        "evaluation images with the float network's answer. *Gap*: mean absolute difference of logits to it on 64",
        "synthetic images that did not calibrate. *Seconds*: of the processor, for the whole calibration.", "",
        f"Machine: {machine_line()}; torch {torch.__version__}; commit {commit()}; one seed.", "",
        "| network | bits | weights | top-1 of float's (images) | as float | gap | s |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in NETWORKS:
        lines += rows_of(name)
    write_atomic(ROOT / "benchmarks" / "results" / "compensation.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
