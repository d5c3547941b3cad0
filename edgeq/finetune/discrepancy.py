"""Discrepancies between teacher and student: of outputs, and of channel relations in feature maps.

ZAQ (Liu, Zhang, Wang, CVPR 2021, arXiv 2103.15263): L1 on outputs, channel relation maps, activation regularisation.
DFQ-AKD (Choi et al., arXiv 2005.04136): Kullback-Leibler divergence of softened outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "Omega",
    "Relation",
    "activation_strength",
    "attention_relation_gap",
    "block_gap",
    "channel_relations",
    "feature_gap",
    "output_gap",
    "relation_gap",
    "soft_divergence",
]

Relation = Literal["cosine", "attention"]
Omega = Literal["equal", "softmax", "inverse"]
"""How the feature maps are weighted: equally, by the softmax of their gaps, or so that all contribute the same.

The paper's formula could not be read; the released code weights equally. The weights carry no gradient."""

Tensors = Mapping[str, Tensor]


def output_gap(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """D_o: mean absolute difference of each output, mean over outputs. Dense outputs count per value."""
    return torch.stack([(t - s).abs().mean() for t, s in zip(teacher, student, strict=True)]).mean()


def block_gap(teacher: Tensors, student: Tensors, blocks: Sequence[str], outputs: Sequence[str]) -> Tensor:
    """Squared error in units of the teacher's square, mean over `blocks` plus mean over `outputs`.

    Block reconstruction as of BRECQ (Li et al., ICLR 2021) and GENIE (arXiv 2212.04780), all blocks at once.
    """

    def mean(names: Sequence[str]) -> Tensor:
        pairs = [(teacher[name], student[name]) for name in names]
        gaps = [(t - s).square().mean() / t.detach().square().mean().clamp_min(1e-12) for t, s in pairs]
        return torch.stack(gaps).mean() if gaps else torch.zeros(())

    return mean(blocks) + mean(outputs)


def soft_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """KL( softmax(T/τ) ‖ softmax(S/τ) ) τ², mean over images (and pixels), classes along dimension 1."""
    t, s = (F.log_softmax(v / temperature, dim=1) for v in (teacher, student))
    return (t.exp() * (t - s)).sum(1).mean() * temperature**2


def channel_relations(features: Tensor) -> Tensor:
    """Cosine between every two channels of each image: ``(N, C, H, W)`` to ``(N, C, C)``; 0 for a dead channel."""
    flat = _directions(features.flatten(2), 2)
    return flat @ flat.transpose(1, 2)


def _directions(value: Tensor, dim: int) -> Tensor:
    """Unit vectors along `dim`; those a hundred times shorter than the mean pass no gradient.

    A quantized channel may be all zero, where the gradient of a unit vector has no bound: the few values about to leave
    zero drown the gradient of everything else, and the student is destroyed within fifty steps.
    """
    lengths = value.detach().norm(dim=dim, keepdim=True)
    long = lengths > 0.01 * lengths.mean(dim=tuple(range(1, value.dim())), keepdim=True)
    return F.normalize(torch.where(long, value, value.detach()), dim=dim)


def relation_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """D_f of one tap: mean absolute difference of the channel relation maps."""
    return (channel_relations(teacher) - channel_relations(student)).abs().mean()


def attention_relation_gap(teacher: Tensor, student: Tensor) -> Tensor:
    """Relation gap of ZAQ's released code: mean L1 of channel and spatial self-attention of normalised features."""
    gaps = [(path(teacher) - path(student)).abs().mean() for path in (_by_channel, _by_place)]
    return torch.stack(gaps).sum()


def _by_channel(features: Tensor) -> Tensor:
    flat = _directions(features, 1).flatten(2)
    energy = flat @ flat.transpose(1, 2)
    attention = torch.softmax(energy.amax(-1, keepdim=True) - energy, dim=-1)
    return 0.1 * (attention @ flat) + flat


def _by_place(features: Tensor) -> Tensor:
    flat = _directions(features, 1).flatten(2)
    attention = torch.softmax(flat.transpose(1, 2) @ flat, dim=-1)
    return 0.1 * (flat @ attention.transpose(1, 2)) + flat


_GAPS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": relation_gap,
    "attention": attention_relation_gap,
}


def feature_gap(
    teacher: Tensors, student: Tensors, taps: Sequence[str], relation: Relation = "cosine", omega: Omega = "equal"
) -> Tensor:
    """D_f: weighted mean of the relation gaps of the feature maps; 0 if there are none."""
    if not taps:
        return torch.zeros(())
    gaps = torch.stack([_GAPS[relation](teacher[name], student[name]) for name in taps])
    still = gaps.detach()
    if omega == "softmax":
        weights = torch.softmax(still, 0)
    elif omega == "inverse":
        weights = 1 / still.clamp_min(1e-8)
        weights = weights / weights.sum()
    else:
        weights = torch.full_like(still, 1 / len(taps))
    return (weights * gaps).sum()


def activation_strength(features: Tensor) -> Tensor:
    """L_a without its sign: mean absolute value of the teacher's last feature map; the generator raises it."""
    return features.abs().mean()
