"""What the cells of a detector without anchors should answer, and the loss: task-aligned assignment (TOOD).

Each object is given to the cells inside it that already see it best, by score and overlap together; the better a cell's
box, the higher the score it should give (Feng et al. 2021, "TOOD", arXiv 2108.07755). Sides of boxes are distributions
over distances (Li et al. 2020, "Generalized Focal Loss", arXiv 2006.04388), and boxes are compared by generalized
overlap (Rezatofighi et al. 2019, arXiv 1902.09630). Weights of the three losses are those that YOLOv8 publishes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Cells", "assign", "detection_loss", "overlaps"]

BEST = 10
"""Cells that an object is given to, at most."""
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
WEIGHTS = {"scores": 0.5, "boxes": 7.5, "distances": 1.5}
_TINY = 1e-9


@dataclass(frozen=True)
class Cells:
    """All cells of a detector's maps: centres ``(A, 2)`` in pixels, x first, and strides ``(A, 1)``."""

    centres: Tensor
    strides: Tensor

    @classmethod
    def of(cls, image: int, strides: tuple[int, ...]) -> Cells:
        """Those of a square image, level by level, row by row."""
        centres, steps = [], []
        for stride in strides:
            side = (torch.arange(image // stride) + 0.5) * stride
            y, x = torch.meshgrid(side, side, indexing="ij")
            centres.append(torch.stack([x.flatten(), y.flatten()], 1))
            steps.append(torch.full((len(centres[-1]), 1), float(stride)))
        return cls(torch.cat(centres), torch.cat(steps))

    def boxes(self, distances: Tensor) -> Tensor:
        """Corners ``(N, A, 4)`` in pixels of distances ``(N, A, 4)`` in cells to left, top, right and bottom."""
        near, far = distances.chunk(2, -1)
        return torch.cat([self.centres - near * self.strides, self.centres + far * self.strides], -1)

    def distances(self, boxes: Tensor) -> Tensor:
        """The inverse of `boxes`."""
        near, far = boxes.chunk(2, -1)
        return torch.cat([self.centres - near, far - self.centres], -1) / self.strides


def overlaps(one: Tensor, other: Tensor, generalized: bool = False) -> Tensor:
    """Intersection over union of boxes ``(..., 4)``, broadcast; `generalized` subtracts the share of the gap."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - both
    share = both / (union + _TINY)
    if not generalized:
        return share
    hull = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    area = hull.prod(-1)
    return share - (area - union) / (area + _TINY)


def assign(scores: Tensor, boxes: Tensor, cells: Cells, truth: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores that cells should give ``(N, A, classes)``, and the object of each cell ``(N, A)``.

    `scores` ``(N, A, classes)`` in 0..1 and `boxes` ``(N, A, 4)`` are what the network says now. `truth` ``(N, M, 4)``
    in pixels and `labels` ``(N, M)`` are padded with labels of -1. A cell without an object should give no score.
    """
    there = labels >= 0
    wanted = labels.clamp(min=0)
    near, far = cells.centres - truth[:, :, None, :2], truth[:, :, None, 2:] - cells.centres
    inside = (torch.cat([near, far], -1).amin(-1) > 0) & there[..., None]
    seen = overlaps(boxes[:, None], truth[:, :, None]).clamp(min=0) * inside
    own = scores.transpose(1, 2).gather(1, wanted[..., None].expand(-1, -1, scores.shape[1]))
    fit = own**SCORE_POWER * seen**OVERLAP_POWER * inside
    least = fit.topk(BEST, -1).values[..., -1:]
    chosen = (fit >= least) & (fit > 0)
    # a cell that two objects want takes the one that its box overlaps more
    owner = torch.where(chosen, seen, -1.0).argmax(1)
    mine = F.one_hot(owner, truth.shape[1]).transpose(1, 2).bool() & chosen
    fit, seen = fit * mine, seen * mine
    quality = fit * seen.amax(-1, keepdim=True) / (fit.amax(-1, keepdim=True) + _TINY)
    label = wanted.gather(1, owner)
    return F.one_hot(label, scores.shape[2]) * quality.amax(1)[..., None], owner


def detection_loss(outputs: tuple[Tensor, ...], cells: Cells, truth: Tensor, labels: Tensor) -> Tensor:
    """The loss of raw heads, boxes then scores, against objects padded as in `assign`."""
    sides, logits = (
        torch.cat([each.flatten(2).transpose(1, 2) for each in half], 1)
        for half in (outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :])
    )
    sides = sides.unflatten(2, (4, -1))
    bins = sides.shape[-1]
    boxes = cells.boxes(sides.softmax(-1) @ torch.arange(bins, dtype=sides.dtype))
    with torch.no_grad():
        targets, owner = assign(logits.sigmoid(), boxes, cells, truth, labels)
        objects = truth.gather(1, owner[..., None].expand(-1, -1, 4))
        weight = targets.sum(-1)
        total = weight.sum().clamp(min=1)
        positive = weight > 0
        exact = cells.distances(objects).clamp(0, bins - 1.01)[positive]
        below = exact.floor().long()
    weight = weight[positive]
    scores = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / total
    where = ((1 - overlaps(boxes[positive], objects[positive], generalized=True)) * weight).sum() / total
    log = sides[positive].log_softmax(-1)
    shares = [log.gather(-1, (below + up)[..., None])[..., 0] for up in (0, 1)]
    part = exact - below
    cross = -(shares[0] * (1 - part) + shares[1] * part).mean(-1)
    distances = (cross * weight).sum() / total
    return WEIGHTS["scores"] * scores + WEIGHTS["boxes"] * where + WEIGHTS["distances"] * distances
