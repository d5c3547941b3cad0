"""The networks of the table as benchmarks use them: loaded once, answered once by the float network, memory watched.

No runtime is imported here: what measures fake-quantized networks alone runs where none is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import ROOT, Column, data_folder
from latency import machine_line

from edgeq.cache import StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, calibration_from_images, load_images
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.measure.accuracy import Accuracy, LogitsFunction, evaluate, logits_function
from edgeq.model.load import LoadedModel, load_model
from edgeq.model.pycode import import_callable
from edgeq.pipeline.prepare import capture_model
from edgeq.quant.scheme import parse_bits

REAL = "images"
"""Name of real training images where methods that make images are named."""

RENDERED = 60_000
"""Images of the renderer's train split that the shipped networks were trained on."""


@dataclass
class Subject:
    """A network of the table, loaded once for all its cells."""

    column: Column
    reference_images: int | None = None

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(str(self.column.model))

    @cached_property
    def raw(self) -> Graph:
        return capture_model(self.loaded)

    @cached_property
    def graph(self) -> Graph:
        return optimize(self.raw)

    @cached_property
    def evaluation(self) -> EvaluationSet:
        spec = self.loaded.spec
        return load_images(self.column.evaluation_images() or spec.evaluation or "", spec)

    def places(self, bits: str) -> list[int]:
        """Which evaluation images are answered at these bits."""
        total = len(self.evaluation)
        wanted = total if parse_bits(bits)[1] == 8 else min(self.reference_images or self.column.reference, total)
        return [int(i) for i in np.linspace(0, total - 1, wanted).round()]

    def part(self, places: list[int]) -> EvaluationSet:
        whole = self.evaluation
        return dataclasses.replace(whole, images=whole.images[places], labels=whole.labels[places])

    def answers(self, run: LogitsFunction, places: list[int]) -> Accuracy:
        return evaluate(run, self.part(places).batches(self.loaded.spec, 8))


def real_images(subject: Subject, count: int, seed: int) -> CalibrationSet:
    """`count` of the subject's training images, chosen by `seed`: what whoever has data would take."""
    spec = subject.loaded.spec
    if subject.column.training is not None:
        path = data_folder() / subject.column.training
        return calibration_from_images(path, spec, count, seed, forbidden=subject.evaluation)
    render = import_callable(str(ROOT / "models" / "signs" / "render.py") + ":render_image")
    chosen = np.random.default_rng(seed).permutation(RENDERED)[:count]
    pixels = np.stack([render(int(i), seed=0, split="train").image for i in chosen])
    return CalibrationSet(spec.normalise(pixels), np.full(count, -1, np.int64), REAL)


def float_answers(subject: Subject, cache: StageCache) -> dict[str, Any]:
    """The float network's answers to every evaluation image, and the labels."""
    evaluation = subject.evaluation

    def work(_: object, space: Workspace) -> Mapping[str, Any]:
        module = subject.loaded.module
        if not isinstance(module, torch.nn.Module):
            module = GraphModule(subject.raw).eval()
        found = evaluate(logits_function(module), evaluation.batches(subject.loaded.spec))
        return {
            "predictions": found.predictions.tolist(),
            "labels": found.labels.tolist(),
            "evaluation": Path(evaluation.source).name,
            "sha256": evaluation.sha256,
        }

    parts = {"graph": subject.raw.digest(), "evaluation": evaluation.sha256}
    return dict(cache.run("float", parts, work).facts)


def hardware() -> str:
    """The processor, and the GPU if there is one."""
    return machine_line() + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "")


def forget_peak() -> None:
    """Start the kernel's high-water mark of this process anew, from memory that is really in use."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int | None:
    """MiB of resident memory at its highest since `forget_peak`; None where the kernel does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), None)
