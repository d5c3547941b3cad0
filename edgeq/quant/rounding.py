"""Weights of few bits, rounded so that errors cancel where inputs are alike, instead of each to its nearest integer.

Optimal brain quantization (Frantar, Singh, Alistarh, "Optimal Brain Compression", NeurIPS 2022) in GPTQ's fixed order
(arXiv 2210.17323): a layer's inputs are alike to a degree, X Xᵀ; rounding one weight pushes the ones not yet rounded
to where they make up for it. Closed form, one pass over the calibration set, no training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d, Linear
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import Quantization

__all__ = ["compensated", "likeness", "round_layer"]

POSITIONS = 1024
"""Output positions a picture contributes to a layer's statistics: neighbours say the same."""

DAMPING = 0.01
BLOCK = 128


@torch.no_grad()
def compensated(
    graph: Graph, weights: Mapping[str, Quantization], calibration: CalibrationSet, batch: int = 4
) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of fewer than 8 bits by constant name, moved onto their grids' chosen points.

    Rounding them to nearest afterwards changes nothing. `graph` is optimised; inputs are those of the float network.
    """
    layers = [node for node in graph.of_kind(Conv2d, Linear) if (weights[node.inputs[1]].bits or 8) < 8]
    if not layers:
        return {}
    seen: dict[str, tuple[Tensor, int]] = {}
    readers: dict[str, list[Node]] = {}
    for node in layers:
        readers.setdefault(node.inputs[0], []).append(node)

    def gather(name: str, value: Tensor) -> None:
        for node in readers.get(name, ()):
            sums, count = likeness(node, graph.constants[node.inputs[1]].shape, value)
            before, so_far = seen.get(node.name, (torch.zeros(()), 0))
            seen[node.name] = before + sums, so_far + count

    module = GraphModule(graph).eval()
    for start in range(0, len(calibration), batch):
        inputs = torch.from_numpy(calibration.inputs[start : start + batch])
        for name in graph.inputs:
            gather(name, inputs)
        module.run(inputs, visit=gather)
    return {
        node.inputs[1]: round_layer(graph.constants[node.inputs[1]], weights[node.inputs[1]], *seen.pop(node.name))
        for node in layers
    }


def likeness(node: Node, shape: tuple[int, ...], value: Tensor) -> tuple[Tensor, int]:
    """X Xᵀ of what a layer's weights (of `shape`) multiply in `value`, ``(groups, n, n)`` with n weights to an output
    channel, and how many columns X has."""
    op = node.op
    if not isinstance(op, Conv2d):
        rows = value.reshape(-1, value.shape[-1]).T.unsqueeze(0)
        return rows @ rows.transpose(1, 2), rows.shape[2]
    top, bottom, left, right = op.padding
    padded = F.pad(value, (left, right, top, bottom))
    (high, wide), (down, along), (dy, dx) = shape[2:], op.stride, op.dilation
    windows = padded.unfold(2, dy * (high - 1) + 1, down).unfold(3, dx * (wide - 1) + 1, along)[..., ::dy, ::dx]
    every = max(1, round((windows.shape[2] * windows.shape[3] / POSITIONS) ** 0.5))
    windows = windows[:, :, every // 2 :: every, every // 2 :: every]
    images, channels, rows_, columns = windows.shape[:4]
    count = images * rows_ * columns
    flat = windows.permute(1, 4, 5, 0, 2, 3).reshape(op.groups, channels // op.groups * high * wide, count)
    return flat @ flat.transpose(1, 2), count


def round_layer(
    weight: npt.NDArray[np.float32], grid: Quantization, alike: Tensor, count: int
) -> npt.NDArray[np.float32]:
    """`weight` on `grid`, errors compensated under `alike` ``(groups, n, n)``, gathered over `count` columns.

    The fewer columns, the less their likeness is believed: with none, every weight goes to its nearest integer.
    """
    groups, n, _ = alike.shape
    wide = torch.float64 if n <= 1024 else torch.float32
    rows = torch.from_numpy(np.ascontiguousarray(weight)).to(wide).reshape(groups, -1, n)
    scale = torch.from_numpy(grid.scale.astype(np.float64)).to(wide).reshape(groups, -1)
    limit = grid.limits[1]
    alike = alike.to(wide) / max(count, 1)
    diagonal = alike.diagonal(dim1=1, dim2=2)
    strength = diagonal.mean(1).clamp_min(1e-12)
    damping = strength * (DAMPING + n / max(count, 1))
    alike = alike + torch.diag_embed(damping[:, None].expand(groups, n))
    order = diagonal.argsort(dim=1, descending=True)  # the strongest inputs first, while there is most left to mend
    back = order.argsort(dim=1)
    alike = alike.gather(1, order[:, :, None].expand_as(alike)).gather(2, order[:, None, :].expand_as(alike))
    rows = rows.gather(2, order[:, None, :].expand_as(rows))
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(alike)), upper=True)
    chosen = torch.empty_like(rows)
    for start in range(0, n, BLOCK):
        stop = min(start + BLOCK, n)
        errors = torch.zeros_like(rows[:, :, start:stop])
        for i in range(start, stop):
            value = rows[:, :, i]
            level = (value / scale).round().clamp(-limit, limit)
            chosen[:, :, i] = level * scale
            error = (value - chosen[:, :, i]) / factor[:, i, i, None]
            rows[:, :, i:stop] -= error[:, :, None] * factor[:, i, None, i:stop]
            errors[:, :, i - start] = error
        rows[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    made = chosen.gather(2, back[:, None, :].expand_as(chosen)).reshape(weight.shape)
    return made.to(torch.float32).numpy()
