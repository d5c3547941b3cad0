"""The losses of each fine-tuning method, of the student and of the generator.

Formulas and their sources: docs/explanation/methods/zaq.md and docs/explanation/methods/dfq-akd.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from edgeq.finetune.discrepancy import activation_strength, feature_gap, output_gap, soft_divergence
from edgeq.finetune.settings import Settings
from edgeq.finetune.taps import feature_taps
from edgeq.graph.ir import Graph
from edgeq.synth.losses import gaussian_kl
from edgeq.synth.teacher import Teacher

__all__ = ["AKD", "KD", "ZAQ", "Objective", "objective_for"]

Values = Mapping[str, Tensor]


class Objective(ABC):
    """Losses of a method. `taps` are the values that both networks must keep besides their outputs."""

    plays: bool = False
    """Whether the method trains a generator."""

    unit: float = 1.0
    """Unit of an absolute gap of outputs; a constant, so that a generator gains nothing by small or large outputs."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        self.settings, self.outputs = settings, graph.outputs
        self.taps: tuple[str, ...] = ()

    @abstractmethod
    def student(self, teacher: Values, student: Values) -> Tensor:
        """The student's loss."""

    def generator(self, images: Tensor, teacher: Values, student: Values) -> Tensor:
        """The generator's loss; by default minus the student's discrepancy."""
        return -self.student(teacher, student)

    def warm_up(self, images: Tensor, teacher: Values) -> Tensor | None:
        """The generator's loss during warm-up; None if it has no warm-up."""
        return None

    def _outputs(self, values: Values) -> list[Tensor]:
        return [values[name] for name in self.outputs]


class ZAQ(Objective):
    """Two-level discrepancy; the generator raises it and keeps the teacher's last feature map alive."""

    plays = True

    def __init__(self, graph: Graph, settings: Settings) -> None:
        super().__init__(graph, settings)
        self.taps = feature_taps(graph)

    def student(self, teacher: Values, student: Values) -> Tensor:
        settings = self.settings
        gap = output_gap(self._outputs(teacher), self._outputs(student)) / self.unit
        if settings.feature_weight == 0:
            return gap
        return gap + settings.feature_weight * feature_gap(
            teacher, student, self.taps, settings.relation, settings.omega
        )

    def generator(self, images: Tensor, teacher: Values, student: Values) -> Tensor:
        gain = self.settings.strength_weight * activation_strength(teacher[self.taps[-1]]) if self.taps else 0.0
        return super().generator(images, teacher, student) - gain

    def warm_up(self, images: Tensor, teacher: Values) -> Tensor | None:
        return -activation_strength(teacher[self.taps[-1]]) if self.taps else None


class KD(Objective):
    """Distillation of outputs, on images that no generator makes.

    `scores`: outputs are scores of classes along dimension 1 and compared as distributions, softened by τ; otherwise
    (boxes, a reconstruction) they are real values, compared by L1 as ZAQ compares them.
    """

    def __init__(self, graph: Graph, settings: Settings, scores: bool = True) -> None:
        super().__init__(graph, settings)
        self._scores = scores

    def student(self, teacher: Values, student: Values) -> Tensor:
        of_teacher, of_student = self._outputs(teacher), self._outputs(student)
        if not self._scores:
            return output_gap(of_teacher, of_student) / self.unit
        pairs = zip(of_teacher, of_student, strict=True)
        return torch.stack([soft_divergence(t, s, self.settings.temperature) for t, s in pairs]).mean()


class AKD(KD):
    """DFQ-AKD: KL divergence, with a prior on images: batch-norm statistics if any, sure answers, balanced classes."""

    plays = True

    def __init__(
        self, graph: Graph, raw: Graph, settings: Settings, scores: bool = True, device: torch.device | None = None
    ) -> None:
        super().__init__(graph, settings, scores)
        teacher = Teacher(raw).to(device)
        self._teacher = teacher if teacher.stored else None

    def generator(self, images: Tensor, teacher: Values, student: Values) -> Tensor:
        return super().generator(images, teacher, student) + self.settings.prior_weight * self.prior(images, teacher)

    def warm_up(self, images: Tensor, teacher: Values) -> Tensor | None:
        return self.prior(images, teacher)

    def prior(self, images: Tensor, teacher: Values) -> Tensor:
        """L_ψ = L_BN + L_inst + L_bat: Gaussian KL to stored statistics, entropy of each answer, minus that of all."""
        total = _surely_each(self._outputs(teacher)[0]) if self._scores else torch.zeros(())
        if self._teacher is not None:
            seen, _ = self._teacher.look(images)
            gaps = [gaussian_kl(seen[name], want).sum() for name, want in self._teacher.stored.items()]
            total = total + torch.stack(gaps).sum()
        return total


def _surely_each(scores: Tensor) -> Tensor:
    """L_inst + L_bat: entropy of each answer, minus that of their mean."""
    answers = torch.log_softmax(scores, dim=1)
    each = -(answers.exp() * answers).sum(1).mean()
    mean = answers.exp().flatten(2).mean([0, 2]) if answers.dim() > 2 else answers.exp().mean(0)
    return each + (mean * mean.clamp_min(1e-12).log()).sum()


def objective_for(
    graph: Graph, raw: Graph, settings: Settings, *, scores: bool = True, device: torch.device | None = None
) -> Objective:
    """`graph` is the optimised one both networks run, `raw` still has its batch norms; `device` is where they run.

    `scores` as in `KD`.
    """
    if settings.method == "zaq":
        return ZAQ(graph, settings)
    return AKD(graph, raw, settings, scores, device) if settings.method == "dfq-akd" else KD(graph, settings, scores)
