"""Losses between the statistics of images and those that batch norms store; differentiable in the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm

__all__ = [
    "Moments",
    "answer_spread",
    "batch_moments",
    "gaussian_kl",
    "squared_gaps",
    "stored_moments",
    "total_variation",
]


_TINY = 1e-10
"""Added to a variance, so that 1/sqrt(variance) is finite for a constant channel."""


_QUIET = 0.01
"""Spread of an output, as a share of the others', below which it counts as constant."""


@dataclass(frozen=True)
class Moments:
    """Mean and (biased) variance per channel, both ``(C,)``."""

    mean: Tensor
    var: Tensor


def batch_moments(value: Tensor) -> Moments:
    """Moments of an activation ``(N, C, ...)`` over batch and space: biased variance, as batch norm itself uses."""
    mean, var = _Moments.apply(value)  # type: ignore[no-untyped-call]
    return Moments(mean, var)


class _Moments(torch.autograd.Function):
    """One pass forward, one backward. torch's own mean and variance along channels-last channels take ten times the
    time of the batch-norm kernel that computes the same numbers, and were most of a distillation's seconds."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        _, mean, inverse = torch.native_batch_norm(value, None, None, None, None, True, 0.0, _TINY)
        var = (inverse**-2 - _TINY).clamp_min(0.0)
        ctx.save_for_backward(value, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        value, mean = ctx.saved_tensors
        shape = (1, -1, *([1] * (value.dim() - 2)))
        to_mean, to_var = (g / (value.numel() // value.shape[1]) for g in gradients)
        slope = 2 * to_var
        return torch.addcmul((to_mean - slope * mean).view(shape), value, slope.view(shape))


def stored_moments(graph: Graph) -> dict[str, Moments]:
    """Running mean and variance of every batch norm, keyed by the value the batch norm reads."""
    moments: dict[str, Moments] = {}
    for node in graph.of_kind(BatchNorm):
        value, _, _, mean, var = node.inputs
        moments[value] = Moments(torch.from_numpy(graph.constants[mean]), torch.from_numpy(graph.constants[var]))
    return moments


def squared_gaps(seen: Mapping[str, Moments], stored: Mapping[str, Moments], floor: float = 1e-6) -> Tensor:
    """Σ over layers of the channel mean of ((m̂−m)²/v + (v̂−v)²/v²), divided by the number of layers.

    The squared loss on batch-norm mean and variance that GZNQ builds on (its Eq. 10 and 11), each gap in units of the
    layer's own stored variance. Without units the loss belongs to whichever layer happens to have the largest variance;
    `floor` keeps channels that never fire from dominating instead (variance below `floor` x the layer's mean variance).
    """
    total = torch.zeros(())
    for name, want in stored.items():
        have = seen[name]
        unit = want.var.clamp_min(1e-12).clamp_min(floor * float(want.var.mean()))
        total = total + ((have.mean - want.mean).square() / unit + ((have.var - want.var) / unit).square()).mean()
    return total / max(1, len(stored))


def gaussian_kl(have: Moments, want: Moments, floor: float = 1e-6) -> Tensor:
    """KL( N(m̂, v̂) ‖ N(m, v) ) per channel ``(C,)``: ≥ 0, and 0 exactly when equal (DFQ-AKD, ZS-CGAN)."""
    var, stored = have.var.clamp_min(floor), want.var.clamp_min(floor)
    return ((have.mean - want.mean).square() + var) / (2 * stored) - 0.5 * (var / stored).log() - 0.5


def answer_spread(answers: Tensor) -> Tensor:
    """Mean over outputs of the logarithm of their spread over a batch ``(N, K)``: to be made large.

    Images that match the statistics of every channel show features that fire independently of each other, where those
    of pictures fire together: the answers, which are sums of them, stay near their mean. Of all images that match the
    statistics, those with the most varied answers are wanted (maximum entropy). A doubled spread is worth the same to
    every output, whatever its unit. Outputs that do not vary at all have no gradient.
    """
    variance = answers.var(0)
    return 0.5 * (variance + _QUIET**2 * variance.mean().detach() + _TINY).log().mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels along rows, columns and both diagonals: smoothness."""
    across = (images[..., :, 1:] - images[..., :, :-1]).square().mean()
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean()
    falling = (images[..., 1:, 1:] - images[..., :-1, :-1]).square().mean()
    rising = (images[..., :-1, 1:] - images[..., 1:, :-1]).square().mean()
    return across + down + falling + rising
