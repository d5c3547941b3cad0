"""A choice of the quantizer, taken and not taken: what both networks answer, and what they cost to make."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from cases import COLUMNS, commit, data_folder
from latency import machine_line
from low_bit import FOLDER, MORE, calibration_set
from subjects import Subject, float_answers

from edgeq.cache import StageCache
from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.finetune.loop import hold_out
from edgeq.finetune.student import Student
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.measure.accuracy import evaluate, logits_function
from edgeq.pipeline.choices import choose_method
from edgeq.progress import Silent
from edgeq.quant.calibrate import Calibration
from edgeq.quant.scheme import Scheme

NETWORKS = ("resnet20", "signs-mobilenetv2", "signs-fixup")

Way = Callable[[Graph, CalibrationSet, tuple[float, float], Scheme], tuple[Graph, Calibration]]
"""From a graph, calibration images, the range of pixels and a scheme to what `Student` takes."""


def rows_of(name: str, bits: Sequence[str], ways: Mapping[str, Way]) -> list[str]:
    """A line of the table for all `bits` and `ways`, printed as they come."""
    column = COLUMNS[name]
    if column.evaluation is None:
        column = dataclasses.replace(column, evaluation=str(MORE))
    subject, cache = Subject(column), StageCache(FOLDER / "cache", Silent())
    images, _, _ = calibration_set(subject, choose_method("auto", subject.raw)[0], 0, "balanced", 0, cache)
    held, made_of = hold_out(images)
    known = float_answers(subject, cache)
    exact = float(100 * np.mean(np.array(known["predictions"]) == np.array(known["labels"])))
    teacher, rows = GraphModule(subject.graph).eval(), []
    for width in bits:
        for label, way in ways.items():
            started = time.process_time()
            scheme = Scheme.of(width, all_layers=True)
            student = Student(*way(subject.graph, made_of, subject.loaded.spec.input_range(), scheme)).eval()
            seconds = time.process_time() - started
            with torch.no_grad():
                inputs = torch.from_numpy(held.inputs)
                gap = float((student(inputs) - teacher(inputs)).abs().mean())
            whole = evaluate(logits_function(student), subject.evaluation.batches(subject.loaded.spec))
            alike = float(100 * np.mean(whole.predictions == np.array(known["predictions"])))
            rows.append(
                f"| {name} | {width} | {label} | {whole.top1:.2f} of {exact:.2f} ({whole.n:,}) | {alike:.2f} % "
                f"| {gap:.4f} | {seconds:.1f} |"
            )
            print(rows[-1], flush=True)
    return rows


def write_page(page: Path, head: Sequence[str], choice: str, bits: Sequence[str], ways: Mapping[str, Way]) -> None:
    """Measure all `NETWORKS` and write `page`: what stands at its `head`, how it was measured, and the table."""
    data_folder()
    lines = [
        *head,
        "",
        "*As float*: share of evaluation images with the float network's answer. *Gap*: mean absolute difference of",
        "logits to it on 64 synthetic images that did not calibrate. *s*: of the processor, to calibrate.",
        "",
        f"Machine: {machine_line()}; torch {torch.__version__}; commit {commit()}; one seed.",
        "",
        f"| network | bits | {choice} | top-1 of float's (images) | as float | gap | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in NETWORKS:
        lines += rows_of(name, bits, ways)
    write_atomic(page, "\n".join(lines) + "\n")
