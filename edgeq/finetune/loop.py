"""The training loop every method shares: turns, schedule, curves, checkpoints, and knowing when it has gone wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import bar_evaluation
from edgeq.errors import ConflictError, DivergedError, MeasurementError
from edgeq.finetune.budget import LARGEST
from edgeq.finetune.checkpoint import read_state, write_state
from edgeq.finetune.discrepancy import block_gap
from edgeq.finetune.objectives import Objective, objective_for
from edgeq.finetune.precision import mixed_precision, training_device, whole_float32
from edgeq.finetune.settings import Settings
from edgeq.finetune.sources import Drawn, ImageSet, Leashed, Mixed, Source
from edgeq.finetune.student import Student
from edgeq.finetune.taps import block_ends
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.progress import Progress, Silent
from edgeq.quant.calibrate import Calibration
from edgeq.synth.distil import Pixel
from edgeq.synth.generators import Generator

__all__ = ["Finetuned", "Job", "finetune", "hold_out"]

EVERY, LOOKS = 50, 12
"""Steps between checkpoints, and between looks at the held-out images; short runs have at least so many looks."""

PATIENCE = 6
"""Looks in a row at which the held-out gap is half worse than before training, and rising: that is divergence."""

TIED = 1.03
"""Times the smallest gap: among trained students no further apart than the few held-out images can tell, the last one
wins, whose rate was lowest."""

COLLAPSED = 40
"""Generator steps in a row whose images the teacher all gives one class."""

FEWEST_IMAGES = 5
"""Images of which a fifth is one."""

RAMP = 0.1
"""Share of the steps over which rates rise: Adam's first steps move everything by a whole rate, whatever the gradient,
and a network of few bits that is pushed that far does not come back in a short run."""


def _peak_mib() -> float:
    """The most memory that this process ever held, in MiB; 0 on Windows, which does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Job:
    """Everything fine-tuning may know: nothing here can hold an evaluation image.

    `graph` is optimised and `decided` its calibration; `raw` still has its batch norms. Of `images`, `hold_out` measure
    gaps; the rest is what `kd` trains on, and should be all that `decided` was calibrated on. `low` and `high`:
    normalised values of pixel 0 and 255 per channel ``(C,)``. `source`: other images for `kd`. `scores`: outputs are
    scores of classes along dimension 1; boxes and other real values are not, and are distilled by their differences.
    """

    graph: Graph
    raw: Graph
    decided: Calibration
    images: CalibrationSet
    low: Tensor
    high: Tensor
    settings: Settings
    seed: int = 0
    source: Source | None = None
    scores: bool = True
    checkpoint: Path | None = None
    progress: Progress = field(default_factory=Silent)


def hold_out(images: CalibrationSet) -> tuple[CalibrationSet, CalibrationSet]:
    """What judges a student, and what may make one: a fifth, 64 images at most, and the rest. Raises `ConfigError` for
    so few images that none would judge."""
    if len(images) < FEWEST_IMAGES:
        raise ConflictError(
            f"{len(images)} images to fine-tune with",
            why=f"a fifth judges, so it takes {FEWEST_IMAGES} or more",
            hint="give 160 or more",
        )
    return images.split(min(64, len(images) // 5))


@dataclass(frozen=True)
class Finetuned:
    """What `freeze` takes, and how it went. `curves`: the student's and the generator's losses, the held-out gaps."""

    graph: Graph
    decided: Calibration
    student: Student
    curves: Mapping[str, list[float]]
    facts: Mapping[str, float]


def finetune(job: Job, device: torch.device | None = None) -> Finetuned:
    """Fine-tune the student of `job` on `device` (default `training_device`).

    An interrupted run resumes from its checkpoint and ends with the same bytes. Raises `MeasurementError` when training
    diverges: the checkpoint then holds the best student so far as ``best``.
    """
    with whole_float32(), bar_evaluation("fine-tuning"):
        run = _Run(job, device or training_device())
        started, before = time.monotonic(), run.step
        while run.step < run.total:
            run.advance()
            if run.step % run.every == 0 or run.step == run.total:
                run.look()
                run.save()
            run.report()
        run.restore_best()
    graph, decided = run.student.cpu().frozen()
    facts = {
        "steps": float(run.total),
        "seconds": time.monotonic() - started,
        "resumed_at": float(before),
        "gap_before": run.curves["held_out"][0],
        "gap_after": run.kept_gap,
        "best_step": float(run.best_step),
        "peak_mib": _peak_mib(),
    }
    return Finetuned(graph, decided, run.student, run.curves, facts)


@dataclass(frozen=True)
class _Player:
    """A generator that takes part, and what moves it."""

    drawn: Drawn
    optimiser: torch.optim.Adam


class _Run:
    """The state of one run: all of it is in a checkpoint."""

    def __init__(self, job: Job, device: torch.device) -> None:
        settings = job.settings
        self.job, self.settings, self.total = job, settings, settings.steps
        self.random, self.device = torch.Generator().manual_seed(job.seed), device
        self.student = Student(job.graph, job.decided, settings.learned).to(self.device)
        self.teacher = GraphModule(job.graph).eval().requires_grad_(False).to(self.device)
        self.objective: Objective = objective_for(job.graph, job.raw, settings, scores=job.scores, device=self.device)
        self.blocks = block_ends(job.graph) if settings.block_weight else ()
        # Adam's noise grows as batches shrink, by the square root.
        scale = math.sqrt(settings.batch / LARGEST)
        groups = self.student.groups(scale * settings.weight_rate, scale * settings.step_rate)
        self.rates = [float(group["lr"]) for group in groups]  # type: ignore[arg-type]
        self.optimiser = torch.optim.Adam(groups)
        held, self.others = (torch.from_numpy(part.inputs) for part in hold_out(job.images))
        self.held = held.to(self.device)
        given = job.source.to(self.device) if isinstance(job.source, Drawn) else job.source
        fixed = given or ImageSet(self.others.to(self.device), settings.shift, settings.blend)
        self.player = self._invite(fixed) if self.objective.plays else None
        self.source: Source = fixed
        self.anchored = settings.batch
        if self.player is not None:
            self.anchored = round(settings.anchor * settings.batch)
            self.source = Mixed(fixed, self.player.drawn, settings.anchor)
        self.settling = round(settings.relaxed * settings.steps) if settings.learned.weights else 0
        if settings.relative:
            self.objective.unit = self._strength() or 1.0
        self.step = self.warmed = self.alike = self.worse = 0
        self.curves: dict[str, list[float]] = {"student": [], "generator": [], "held_out": []}
        self.every = min(EVERY, max(1, self.total // LOOKS))
        self.best = self.kept_gap = math.inf
        self.best_step = 0
        self.kept: dict[str, Tensor] = {}
        if not self._load():
            self.look()
            if self.settling:
                self.student.relax()

    def _invite(self, around: Source) -> _Player:
        _, *shape = self.job.graph.input_shapes[self.job.graph.inputs[0]]
        forked = torch.random.get_rng_state()
        torch.manual_seed(self.job.seed)
        generator = Generator((shape[0], shape[1], shape[2]), latent=self.settings.latent, width=self.settings.width)
        torch.random.set_rng_state(forked)
        low, high = (v.view(1, -1, 1, 1) for v in (self.job.low, self.job.high))
        pixel = Pixel((low + high) / 2, (high - low) / 2).to(self.device)
        generator, leash = generator.to(self.device), self.settings.leash
        drawn = Leashed(generator, pixel, around, leash) if leash else Drawn(generator, pixel)
        return _Player(drawn, torch.optim.Adam(generator.parameters(), lr=self.settings.generator_rate))

    @torch.no_grad()
    def _strength(self) -> float:
        """Mean absolute output of the teacher on held-out images."""
        values = [self.teacher.run(some) for some in torch.split(self.held, self.settings.batch)]
        return float(np.mean([float(torch.cat([v[n] for v in values]).abs().mean()) for n in self.job.graph.outputs]))

    def advance(self) -> None:
        """One step of the student, and the generator's when it is its turn."""
        while self.player is not None and self.warmed < self.settings.warm_up:
            self._play(self.player, alone=True)
            self.warmed += 1
        share = min(1.0, (self.step + 1) / max(1.0, RAMP * self.total)) * self._fade()
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        kept = {*self.objective.taps, *self.blocks}
        with torch.no_grad(), self._mixed():
            images = self.source.images(self.settings.batch, self.random).to(self.device).float()
            teacher = self._ask(images, kept)
        self.optimiser.zero_grad()
        student = self.student.run(images, keep=kept)
        loss = self.objective.student(teacher, student)
        if self.blocks and self.anchored:
            outputs = self.job.graph.outputs
            of_teacher, of_student = ({n: v[: self.anchored] for n, v in side.items()} for side in (teacher, student))
            loss = loss + self.settings.block_weight * block_gap(of_teacher, of_student, self.blocks, outputs)
        loss.backward()  # type: ignore[no-untyped-call]
        self._note("student", float(loss.detach()))
        self.optimiser.step()
        self.step += 1
        if self.step == self.settling:
            self._round_weights()
        if self.player is not None and self.step % self.settings.turns == 0:
            self._play(self.player, alone=False)

    def _round_weights(self) -> None:
        """Halfway, weights take their places on their grids: from here on, the student is what will be frozen."""
        self.student.cpu()
        self.student.round_weights(self.others.numpy())
        if self.settings.hold:
            self.student.hold()
        self.student.to(self.device)
        self.look()

    def _play(self, player: _Player, *, alone: bool) -> None:
        share = 1.0 if alone else self._fade()
        player.optimiser.param_groups[0]["lr"] = self.settings.generator_rate * max(share, 0.01)
        taps = self.objective.taps
        with self._mixed():
            images = player.drawn.draw(self.settings.batch, self.random).float()
            teacher = self._ask(images, taps)
        loss: Tensor | None
        if alone:
            loss = self.objective.warm_up(images, teacher)
            if loss is None:
                return
        else:
            loss = self.objective.generator(images, teacher, self.student.run(images, keep=taps))
        player.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._note("generator", float(loss.detach()))
        player.optimiser.step()
        if not alone:
            self._watch(teacher[self.job.graph.outputs[0]])

    def _fade(self) -> float:
        """Cosine from one to zero."""
        return 0.5 * (1 + math.cos(math.pi * self.step / self.total))

    def _mixed(self) -> torch.autocast:
        return mixed_precision(self.settings.precision, self.device)

    def _ask(self, images: Tensor, keep: Collection[str]) -> dict[str, Tensor]:
        """The teacher's values, float32 whatever they were computed in: losses are."""
        return {name: value.float() for name, value in self.teacher.run(images, keep=keep).items()}

    def _note(self, curve: str, value: float) -> None:
        self.curves[curve].append(value)
        if not math.isfinite(value):
            raise self._diverged(f"the {curve}'s loss is {value}")

    def _watch(self, answers: Tensor) -> None:
        """A generator that shows one class only has stopped asking questions."""
        if answers.dim() != 2 or answers.shape[1] < 2:
            return
        self.alike = self.alike + 1 if bool((answers.argmax(1) == answers[0].argmax()).all()) else 0
        if self.alike >= COLLAPSED:
            raise self._diverged(f"for {COLLAPSED} steps all generated images were of one class")

    @torch.no_grad()
    def gap(self) -> float:
        """To the teacher, on held-out synthetic images: mean absolute difference of outputs."""
        parts = []
        for some in torch.split(self.held, self.settings.batch):
            teacher, student = self.teacher.run(some), self.student.run(some)
            gaps = [float((teacher[n] - student[n]).abs().mean()) for n in self.job.graph.outputs]
            parts.append(len(some) * float(np.mean(gaps)))
        return sum(parts) / len(self.held)

    def look(self) -> None:
        """Where the student stands: what is frozen in the end and what counts as divergence are judged by it."""
        gap = self.gap()
        seen = self.curves["held_out"]
        self.worse = self.worse + 1 if seen and gap > max(seen[0] * 1.5, seen[-1]) else 0
        seen.append(gap)
        if self.worse >= PATIENCE:
            raise self._diverged(f"the gap on held-out images rose from {seen[0]:.3g} to {gap:.3g}")
        tied = self.best_step > 0 and gap <= TIED * self.best
        if (gap < self.best or tied) and not self.student.relaxed:
            self.best, self.best_step = min(gap, self.best), self.step
            self.kept_gap = gap
            self.kept = {name: value.clone() for name, value in self.student.state_dict().items()}
            if self.job.checkpoint is not None:
                write_state(self.job.checkpoint / "best.pt", {"student": self.kept, "step": self.step, "gap": gap})

    def restore_best(self) -> None:
        """The best student seen, which may be the one before training: a game can be lost."""
        self.student.load_state_dict(self.kept)

    def _diverged(self, why: str) -> MeasurementError:
        kept = f"the best student so far is in {self.job.checkpoint / 'best.pt'}; " if self.job.checkpoint else ""
        hint = f"{kept}try another --seed, more --images, or --finetune kd"
        return DivergedError(f"fine-tuning diverged at step {self.step}", why=why, hint=hint)

    def report(self) -> None:
        note = f"gap to the float network {self.curves['held_out'][-1]:.3g}"
        self.job.progress.step(self.step, self.total, note)

    def save(self) -> None:
        """Everything that decides what happens next."""
        if self.job.checkpoint is None:
            return
        state: dict[str, Any] = {
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.random.get_state(),
            "curves": self.curves,
            "best": [self.best, self.kept_gap, self.best_step],
            "kept": self.kept,
            "counts": [self.step, self.warmed, self.alike, self.worse],
        }
        if self.player is not None:
            state |= {"generator": self.player.drawn.generator.state_dict()}
            state |= {"generator_optimiser": self.player.optimiser.state_dict()}
        write_state(self.job.checkpoint / "state.pt", state)

    def _load(self) -> bool:
        """Continue where an interrupted run of the same job stood, if there is one."""
        if self.job.checkpoint is None:
            return False
        state = read_state(self.job.checkpoint / "state.pt")
        if state is None:
            return False
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"])
        self.curves = state["curves"]
        self.kept = {name: value.to(self.device) for name, value in state["kept"].items()}
        self.best, self.kept_gap, self.best_step = state["best"]
        self.step, self.warmed, self.alike, self.worse = state["counts"]
        if self.step < self.settling:
            self.student.continue_relaxed()
        elif self.settling and self.settings.hold:
            self.student.hold()
        if self.player is not None:
            self.player.drawn.generator.load_state_dict(state["generator"])
            self.player.optimiser.load_state_dict(state["generator_optimiser"])
        return True
