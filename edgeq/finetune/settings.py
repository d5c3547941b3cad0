"""What fine-tuning can be told, and each method's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from edgeq.finetune.budget import batch_for, steps_for
from edgeq.finetune.discrepancy import Omega, Relation
from edgeq.finetune.precision import Precision
from edgeq.finetune.student import Learned
from edgeq.graph.ir import Graph

__all__ = ["METHODS", "Settings", "settings_for"]

METHODS = ("zaq", "dfq-akd", "kd")


@dataclass(frozen=True)
class Settings:
    """One run. `steps` are the student's; the generator takes one for every `turns` of them, after `warm_up` alone.
    `batch` counts the images of a step.

    `feature_weight` is ZAQ's α, `strength_weight` its β (0.1 and 0.05 in the paper; 1 and 0.1 in its released code),
    `prior_weight` DFQ-AKD's α, `temperature` its τ. Rates are Adam's for batches of 64, up from zero and back along a
    cosine: `weight_rate` for weights and biases, `step_rate` relative for step sizes, `generator_rate`.

    Edgeq's own, for runs a hundred times shorter than the papers': `anchor`, the share of a batch that comes from the
    calibration set and not from a generator (papers: 0); `leash`, see `Leashed` (papers: none, which is 0 here);
    `blend`, see `ImageSet`; `relative`, ZAQ's output gap in units of the teacher's mean absolute output on held-out
    images (ZAQ: False); `block_weight` on the reconstruction of every block, on the calibration set's share alone
    (papers: 0); `relaxed`, the share of the steps in which weights of few bits are not rounded yet: they settle on
    their grids in closed form (papers: 0), where they stay if `hold`, and biases and steps learn around them.
    """

    method: str
    steps: int
    batch: int = 64
    turns: int = 5
    warm_up: int = 0
    weight_rate: float = 1e-3
    step_rate: float = 3e-3
    generator_rate: float = 1e-3
    latent: int = 256
    width: int = 64
    feature_weight: float = 0.1
    strength_weight: float = 0.05
    prior_weight: float = 0.01
    temperature: float = 1.0
    relation: Relation = "cosine"
    omega: Omega = "equal"
    shift: float = 0.12
    anchor: float = 0.5
    leash: float = 0.0
    relative: bool = True
    blend: float = 0.5
    block_weight: float = 10.0
    relaxed: float = 0.6
    hold: bool = True
    precision: Precision = "float32"
    learned: Learned = field(default_factory=Learned)


_CAREFUL: dict[str, Any] = {"weight_rate": 3e-4, "step_rate": 1e-3}
"""Of players: what they are shown changes under them."""

_BASE = {
    "zaq": Settings("zaq", 0, leash=0.5, **_CAREFUL),
    "dfq-akd": Settings("dfq-akd", 0, turns=10, warm_up=100, leash=0.5, **_CAREFUL),
    "kd": Settings("kd", 0),
}


def settings_for(method: str, effort: str, graph: Graph) -> Settings:
    """The defaults of a method of `METHODS` for an optimised `graph` at ``fast``, ``balanced`` or ``best``."""
    base, steps = _BASE[method], steps_for(graph, method, effort)
    return replace(base, steps=steps, batch=batch_for(graph), warm_up=min(base.warm_up, steps // 5))
