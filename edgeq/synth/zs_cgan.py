"""ZS-CGAN: a conditional generator that is trained without data, with the float network as its only teacher.

Choi, El-Khamy, Lee, "Zero-Shot Learning of a Conditional Generative Adversarial Network for Data-Free Network
Quantization", ICIP 2021 (arXiv 2210.14392). The Gaussian KL to batch-norm statistics and the labels are the paper's;
weights, architecture and schedule could not be read and are reconstructed: docs/explanation/methods/zs-cgan.md says
which is which.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.config.typed import Amount, Count, Positive, Width
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import DivergedError, MethodLimitError
from edgeq.files import write_atomic
from edgeq.synth.base import RECIPES, SYNTHESIZERS, Recipe, Request, balanced_labels, batch_generator
from edgeq.synth.checkpoint import read_tensors
from edgeq.synth.distil import Pixel
from edgeq.synth.generatorfile import GENERATOR, Trained, generator_bytes
from edgeq.synth.generators import Generator
from edgeq.synth.losses import gaussian_kl
from edgeq.synth.teacher import Teacher

__all__ = ["Settings", "sample", "settings_for", "train", "zs_cgan"]

_EVERY = 50
"""Steps between checkpoints."""

_KEYS = 1_000_000
"""First batch number of sampling; the random streams of training use the numbers below."""


@dataclass(frozen=True)
class Settings:
    """`statistics_weight` on the mean KL over channels and layers, `class_weight` on the class term; Adam at `rate`.

    `conditional` False is the ablation: DFQ-AKD's pair of entropies instead of cross-entropy to a drawn label.
    `retries`: further rounds of drawing for images the network gives another class than the one asked for.
    """

    steps: Positive
    batch: Positive = 64
    latent: Width = 128
    width: Width = 64
    rate: Amount = 3e-3
    statistics_weight: Amount = 10.0
    class_weight: Amount = 0.1
    conditional: bool = True
    retries: Count = 10


def settings_for(effort: str) -> Settings:
    """Settings for an effort: `fast`, `balanced` or `best`. This family of papers trains for 20,000 steps and more."""
    return Settings(steps={"fast": 100, "balanced": 600, "best": 3000}[effort])


RECIPES["zs-cgan"] = Recipe(settings_for, lambda settings, images: int(settings.steps * settings.batch))
"""Training costs the same for any number of images."""


@SYNTHESIZERS.register("zs-cgan")
def zs_cgan(request: Request) -> CalibrationSet:
    """Train a class-conditional generator against the network alone, then draw a balanced, labelled set from it.

    Leaves the generator in `request.products`. Raises `UnsupportedError` without batch norms or without classes.
    """
    settings = request.settings("zs-cgan")
    trained = train(request, settings)
    if request.products is not None:
        write_atomic(request.products / GENERATOR, generator_bytes(trained))
    labels = balanced_labels(request.images, request.classes, request.seed)
    images, notes = sample(trained, Teacher(request.graph), labels, request.seed, settings.retries)
    facts = notes | {"iterations": float(settings.steps)}
    return CalibrationSet(images.numpy(), labels.numpy().astype(np.int64), "zs-cgan", facts)


def train(request: Request, settings: Settings) -> Trained:
    """The generator after `settings.steps` steps; continues from `request.checkpoint` with the same bytes.

    Raises `UnsupportedError` where there is nothing to learn from, `MeasurementError` when the loss is no number.
    """
    teacher = Teacher(request.graph).to(request.device)
    if not teacher.stored:
        raise MethodLimitError(
            "zs-cgan needs batch-norm statistics",
            where=request.graph.name,
            why="the network has none (absent or folded)",
            hint="use --method inversion, or zaq to fine-tune",
        )
    if request.classes < 2:
        raise MethodLimitError(
            "zs-cgan needs classes to condition on", where=request.graph.name, hint="use --method gznq"
        )
    low, high = request.limits()
    run = _Run(request, settings, teacher, Pixel((low + high) / 2, (high - low) / 2).to(request.device))
    while run.step < settings.steps:
        run.advance()
        if run.step % _EVERY == 0:
            run.save()
        request.progress.step(run.step, settings.steps, f"loss {run.loss:.3g}")
    return Trained(run.generator.cpu().eval(), low.flatten(), high.flatten())


@torch.no_grad()
def sample(
    trained: Trained, teacher: Teacher, labels: Tensor, seed: int, retries: int = 10, part: int = 64
) -> tuple[Tensor, dict[str, float]]:
    """Images ``(N, C, H, W)`` for `labels`, those of another class drawn anew up to `retries` times.

    The notes: shares ``rejected`` at first and still ``wrong`` at last.
    """
    places = torch.arange(len(labels))
    images = torch.empty(0)
    notes = {"rejected": 0.0, "wrong": 0.0}
    for attempt in range(retries + 1):
        random = batch_generator(seed, _KEYS + attempt)
        drawn = torch.cat([trained.draw(some, random) for some in torch.split(labels[places], part)])
        if attempt == 0:
            images = drawn
        else:
            images[places] = drawn
        places = places[teacher.classes(drawn) != labels[places]]
        notes["wrong"] = len(places) / len(labels)
        if attempt == 0:
            notes["rejected"] = notes["wrong"]
        if not len(places):
            break
    return images.contiguous(), notes


class _Run:
    """State of one training; a checkpoint holds all of it."""

    def __init__(self, request: Request, settings: Settings, teacher: Teacher, pixel: Pixel) -> None:
        self.request, self.settings, self.teacher, self.pixel = request, settings, teacher, pixel
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            self.generator = Generator(
                request.shape, latent=settings.latent, width=settings.width, classes=request.classes
            )
        self.generator.train().to(request.device)
        self.optimiser = torch.optim.Adam(self.generator.parameters(), lr=settings.rate, betas=(0.5, 0.999))
        self.step, self.loss = 0, math.inf
        self._load()

    def advance(self) -> None:
        settings = self.settings
        random = batch_generator(self.request.seed, self.step)
        labels = torch.randint(self.request.classes, (settings.batch,), generator=random)
        latents = self.generator.draw(settings.batch, random)
        latents, labels = (some.to(self.request.device) for some in (latents, labels))
        images = self.pixel.normalised(self.generator(latents, labels))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate * 0.5 * (1 + math.cos(math.pi * self.step / settings.steps))
        loss = self._loss(images, labels)
        self.loss = float(loss.detach())
        if not math.isfinite(self.loss):
            raise DivergedError(
                f"training the generator diverged at step {self.step}",
                why=f"its loss is {self.loss}",
                hint="try another --seed, or --method gznq",
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        seen, logits = self.teacher.look(images)
        gaps = [gaussian_kl(seen[name], want).mean() for name, want in self.teacher.stored.items()]
        if self.settings.conditional:
            classes = F.cross_entropy(logits, labels)
        else:
            answers = torch.log_softmax(logits, 1)
            mean = answers.exp().mean(0)
            classes = (mean * mean.clamp_min(1e-12).log()).sum() - (answers.exp() * answers).sum(1).mean()
        return self.settings.statistics_weight * torch.stack(gaps).mean() + self.settings.class_weight * classes

    def save(self) -> None:
        path = self._path()
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        state = {"generator": self.generator.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}
        torch.save(state, buffer)
        write_atomic(path, buffer.getvalue())

    def _load(self) -> None:
        path = self._path()
        state = None if path is None else read_tensors(path)
        if state is None:
            return
        self.generator.load_state_dict(state["generator"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])

    def _path(self) -> Path | None:
        return None if self.request.checkpoint is None else self.request.checkpoint / "generator.pt"
