"""GZNQ: images of every class out of batch-norm statistics, as generative modelling of those statistics.

He, Hu, Wang, Cheng, "Generative Zero-shot Network Quantization", arXiv 2101.08430. From the paper: class-conditional
images, squared gaps to the batch-norm means and variances, cross-entropy. Reconstructed (its later pages could not be
read): everything else. `gznq-generator` replaces pixels by latents and a small generator, as GENIE does (arXiv
2212.04780). See docs/explanation/methods/gznq.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.config.typed import Amount, Bits, Count, Positive, Share, Width
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import MethodLimitError
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, balanced_labels, batch_generator, batch_sizes
from edgeq.synth.checkpoint import keep, read_images, read_notes
from edgeq.synth.distil import Pixel, Pull, distil
from edgeq.synth.inversion import draw_leaves
from edgeq.synth.sources import Latents, Pixels
from edgeq.synth.teacher import RunningMoments, Teacher, resize_input

__all__ = [
    "GeneratorSettings",
    "Settings",
    "generator_settings",
    "gznq",
    "gznq_generator",
    "settings_for",
    "synthesize",
]

PULL = Pull(
    rate=0.05,
    class_weight=0.5,
    statistics_weight=1.0,
    variation_weight=0.1,
    size_weight=0.05,
    shift=0.06,
    flip=True,
    smooth=0.0,
    warm_up=10,
    cooling=0.6,
    patience=0,
)


LOOSE = 0.25
"""Share of a set that stays random shapes. `benchmarks/image_fit.py` compares it with none."""


@dataclass(frozen=True)
class Settings:
    """Settings of `gznq`, which optimises pixels. benchmarks/gznq_ablation.py compares them.

    `coarse` iterations run at half resolution first (`small`: on a network of half the input size where its graph
    allows, otherwise on a half-size canvas enlarged), then `fine` ones. `teacher_bits`: widths of the compressed copies
    that take turns with the network (empty: the network alone). `aggregate`: finished batches count in the moments.
    `retries`: how often images of the wrong class are made anew.
    """

    coarse: Count = 60
    fine: Positive = 90
    batch: Positive = 64
    small: bool = True
    teacher_bits: tuple[Bits, ...] = ()
    swung: bool = False
    aggregate: bool = False
    retries: Count = 1
    depth: Positive = 5
    chroma: Amount = 0.2
    loose: Share = 0.0
    pull: Pull = PULL


@dataclass(frozen=True)
class GeneratorSettings(Settings):
    """GZNQ with a generator: `latent` numbers per image, `width` channels at its start."""

    coarse: Count = 0
    swung: bool = True
    latent: Width = 256
    width: Width = 128


def settings_for(effort: str) -> Settings:
    """Settings for an effort: `fast`, `balanced` or `best`. More iterations give closer moments."""
    coarse, fine = {"fast": (30, 10), "balanced": (40, 20), "best": (60, 90)}[effort]
    return Settings(coarse=coarse, fine=fine, loose=LOOSE)


def _few_bits(effort: str) -> dict[str, Any]:
    """More iterations, most of them where they are cheap, and statistics that count for more.

    Rounded weights follow the correlations of their inputs, which come right only as the moments do. Chosen on
    photographs that no table measures on.
    """
    coarse, fine = {"fast": (80, 20), "balanced": (160, 40), "best": (240, 90)}[effort]
    return {"coarse": coarse, "fine": fine, "pull": {"statistics_weight": 3.0}}


def generator_settings(effort: str) -> GeneratorSettings:
    """Settings of `gznq-generator` for an effort: `fast`, `balanced` or `best`."""
    return GeneratorSettings(fine={"fast": 60, "balanced": 120, "best": 400}[effort])


def _passes(settings: Settings, images: int) -> int:
    pulled = images - round(settings.loose * images)
    return pulled * (settings.fine + settings.coarse // (4 if settings.small else 1))


RECIPES["gznq"] = Recipe(settings_for, _passes, _few_bits)
RECIPES["gznq-generator"] = Recipe(generator_settings, _passes)


@SYNTHESIZERS.register("gznq")
def gznq(request: Request) -> CalibrationSet:
    """Optimise the pixels of labelled images until the network's batch norms see the statistics they remember.

    Raises `UnsupportedError` where the network has no batch norm to remember anything.
    """
    return synthesize(request, request.settings("gznq"), "gznq")


@SYNTHESIZERS.register("gznq-generator")
def gznq_generator(request: Request) -> CalibrationSet:
    """The same losses on latents and a small generator, optimised together for each batch."""
    return synthesize(request, request.settings("gznq-generator"), "gznq-generator")


def synthesize(request: Request, settings: Settings, method: str) -> CalibrationSet:
    """A calibration set by `settings`. Its notes: share rejected at first and at last, and iterations per batch."""
    teacher = Teacher(request.graph, bits=settings.teacher_bits, swung=settings.swung).to(request.device)
    if not teacher.stored:
        raise MethodLimitError(
            f"{method} needs batch-norm statistics",
            where=request.graph.name,
            why="the network has none (absent or folded)",
            hint="use --method gzsq, or images:PATH",
        )
    work = _Work(request, settings, teacher)
    loose = round(settings.loose * request.images)
    pulled = request.images - loose
    if request.classes > 0:
        labels = balanced_labels(pulled, request.classes, request.seed)
    else:
        labels = torch.full((pulled,), -1)
    sizes = batch_sizes(pulled, settings.batch)
    steps, parts, notes = settings.coarse + settings.fine, list[npt.NDArray[np.float32]](), list[dict[str, float]]()
    moments = RunningMoments(0, {})
    for index, labelled in enumerate(torch.split(labels, sizes)):
        images = read_images(request.checkpoint, index)
        if images is None:
            random = batch_generator(request.seed, index)

            def report(done: int, note: str, before: int = index * steps) -> None:
                request.progress.step(before + min(done, steps), steps * len(sizes), note)

            images, noted = work.batch(labelled, moments, random, report)
            keep(request.checkpoint, index, images, noted)
        else:
            noted = read_notes(request.checkpoint, index)
        if settings.aggregate and index + 1 < len(sizes):
            moments = teacher.measure_moments(torch.from_numpy(np.concatenate([*parts, images])))
        parts.append(images)
        notes.append(noted)
    total = {name: sum(n.get(name, 0.0) for n in notes) for name in ("rejected", "wrong", "iterations")}
    facts = {"iterations": total["iterations"] / len(sizes)}
    if request.classes > 0:
        facts |= {"rejected": total["rejected"] / len(labels), "wrong": total["wrong"] / len(labels)}
    inputs, answers = np.concatenate(parts), labels.numpy().astype(np.int64)
    if loose:
        places = (
            np.linspace(0, pulled, loose + 1)[1:].round().astype(int)
        )  # spread: a first part of the set has its share
        inputs = np.insert(inputs, places, draw_leaves(request, loose, len(sizes)).numpy(), axis=0)
        answers = np.insert(answers, places, -1)
    return CalibrationSet(inputs, answers, method, facts)


class _Work:
    """State that all batches of one request share."""

    def __init__(self, request: Request, settings: Settings, teacher: Teacher) -> None:
        self.request, self.settings, self.teacher = request, settings, teacher
        low, high = (some.to(request.device) for some in request.limits())
        self.pixel = Pixel((low + high) / 2, (high - low) / 2)
        self.low, self.high = low, high
        smaller = resize_input(request.graph, 2) if settings.coarse and settings.small else None
        bits, swung = settings.teacher_bits, settings.swung
        self.coarse = teacher if smaller is None else Teacher(smaller, bits=bits, swung=swung).to(request.device)

    def batch(
        self, labels: Tensor, finished: RunningMoments, random: torch.Generator, report: Callable[[int, str], None]
    ) -> tuple[npt.NDArray[np.float32], dict[str, float]]:
        """One batch, optimised together because the statistics are those of a batch; wrong images made anew."""
        images, iterations = self._images(labels, finished, random, report)
        notes = {"rejected": 0.0, "wrong": 0.0, "iterations": float(iterations)}
        if self.request.classes == 0:
            return images.numpy(), notes
        wrong = self.teacher.classes(images) != labels
        notes["rejected"] = float(wrong.sum())
        for _ in range(self.settings.retries):
            if not wrong.any():
                break
            # The accepted images stay as they are and count beside the new ones in the moments.
            around = finished
            if not wrong.all():
                right = self.teacher.measure_moments(images[~wrong])
                around = RunningMoments(finished.images + right.images, finished.merge(right.moments, right.images))
            fresh, extra = self._images(labels[wrong], around, random, lambda done, note: None)
            notes["iterations"] += float(extra) * len(fresh) / len(labels)
            images[wrong] = fresh
            wrong = self.teacher.classes(images) != labels
        notes["wrong"] = float(wrong.sum())
        return images.numpy(), notes

    def _images(
        self, labels: Tensor, finished: RunningMoments, random: torch.Generator, report: Callable[[int, str], None]
    ) -> tuple[Tensor, int]:
        settings, (c, h, w), device = self.settings, self.request.shape, self.request.device
        pulled = None if self.request.classes == 0 else labels.to(device)

        def run(source: Pixels | Latents, teacher: Teacher, steps: int, before: int) -> int:
            return distil(
                source,
                teacher,
                pulled,
                steps,
                settings.pull,
                pixel=self.pixel,
                finished=finished,
                random=random,
                report=lambda done, note: report(before + done, note),
                values=self.request.values,
            )

        source: Pixels | Latents
        done = 0
        if isinstance(settings, GeneratorSettings):
            source = Latents((len(labels), c, h, w), settings.latent, settings.width, random, device)
        elif settings.coarse == 0:
            shape = (len(labels), c, h, w)
            source = Pixels.noise(shape, random, depth=settings.depth, chroma=settings.chroma, device=device)
        else:
            small = Pixels.noise(
                (len(labels), c, max(1, h // 2), max(1, w // 2)),
                random,
                depth=max(1, settings.depth - 1),
                chroma=settings.chroma,
                device=device,
            )
            done = run(small, self.coarse, settings.coarse, 0)
            source = small.enlarged((h, w))
        done += run(source, self.teacher, settings.fine, settings.coarse)
        with torch.no_grad():
            images = self.pixel.normalised(source.images().detach())
            images = torch.minimum(torch.maximum(images, self.low), self.high)
        return images.cpu().contiguous().to(torch.float32), done
