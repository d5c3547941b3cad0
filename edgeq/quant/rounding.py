"""Weights of few bits, rounded so that errors cancel where inputs are alike, instead of each to its nearest integer.

Optimal brain quantization (Frantar, Singh, Alistarh, "Optimal Brain Compression", NeurIPS 2022) in GPTQ's fixed order
(arXiv 2210.17323): a layer's inputs are alike to a degree, X Xᵀ; rounding one weight pushes the ones not yet rounded
to where they make up for it. Closed form, one pass over the calibration set, no training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.graph.ir import Node
from edgeq.integer.graph import Quantization

__all__ = ["COMPENSATED", "likeness", "round_layer"]

COMPENSATED = 6
"""Bits at most of weights that are worth it. With seven, the gap to the float network on held-out synthetic images is a
sixth smaller at best and may be larger, for several times the time (`benchmarks/compensation.py`)."""

POSITIONS = 1024
"""Output positions a picture contributes to a layer's statistics: neighbours say the same."""

CHUNK = 4
"""Images looked at together: a column is as long as a window holds values."""

DAMPING = 0.01
BLOCK = 128

LONGEST = 4608
"""Weights to an output whose errors are weighed together, 512 channels of 3 x 3. More are weighed in equal parts, as if
inputs of one part and of another had nothing in common: time and memory grow with the cube and the square, and VGG's
first linear layer has 25,088."""


def likeness(
    node: Node, shape: tuple[int, ...], value: Tensor, exact: Tensor | None = None
) -> tuple[Tensor, Tensor, int]:
    """X Xᵀ of what a layer's weights (of `shape`) multiply in `value`, E Xᵀ with what they multiply in `exact`, both
    ``(groups, n, n)`` with n weights to an output channel, and how many columns X has. `exact` is X where left out.
    Of channels longer than `LONGEST` both are ``(groups * parts, n / parts, n / parts)``."""
    alike = cross = torch.zeros(())
    count = 0
    for start in range(0, len(value), CHUNK):
        x = _parted(_columns(node, shape, value[start : start + CHUNK]))
        e = x if exact is None else _parted(_columns(node, shape, exact[start : start + CHUNK]))
        alike, cross, count = alike + x @ x.transpose(1, 2), cross + e @ x.transpose(1, 2), count + x.shape[2]
    return alike, cross, count


def _parted(columns: Tensor) -> Tensor:
    groups, n, count = columns.shape
    parts = next(parts for parts in range(1, n + 1) if n % parts == 0 and n // parts <= LONGEST)
    return columns.reshape(groups * parts, n // parts, count)


def _columns(node: Node, shape: tuple[int, ...], value: Tensor) -> Tensor:
    """What one output position sees, a column each: ``(groups, n, columns)``, of evenly spaced positions."""
    window = node.op.sliding_window([tuple(value.shape), shape])
    if window is None:
        return value.reshape(-1, value.shape[-1]).T.unsqueeze(0)
    top, bottom, left, right = window.padding
    padded = F.pad(value, (left, right, top, bottom))
    (high, wide), (down, along), (dy, dx) = shape[2:], window.stride, window.dilation
    windows = padded.unfold(2, dy * (high - 1) + 1, down).unfold(3, dx * (wide - 1) + 1, along)[..., ::dy, ::dx]
    every = max(1, round((windows.shape[2] * windows.shape[3] / POSITIONS) ** 0.5))
    windows = windows[:, :, every // 2 :: every, every // 2 :: every]
    images, channels, rows, columns = windows.shape[:4]
    flat = windows.permute(1, 4, 5, 0, 2, 3)
    groups = channels // shape[1]
    return flat.reshape(groups, shape[1] * high * wide, images * rows * columns)


def round_layer(
    weight: npt.NDArray[np.float32], grid: Quantization, alike: Tensor, count: int, cross: Tensor | None = None
) -> npt.NDArray[np.float32]:
    """`weight` on `grid`, errors compensated under `alike` = X Xᵀ of `likeness`, gathered over `count` columns.

    With `cross` = E Xᵀ it also makes up for X being inexact: W E is then what Ŵ X has to come near. The fewer columns,
    the less all this is believed: with none, every weight goes to its nearest integer.
    """
    pieces, n, _ = alike.shape
    parts = weight[0].size // n
    groups = pieces // parts
    wide = torch.float64 if n <= 1024 else torch.float32
    rows = torch.from_numpy(np.ascontiguousarray(weight)).to(wide)
    rows = rows.reshape(groups, -1, parts, n).transpose(1, 2).reshape(pieces, -1, n)
    scale = torch.from_numpy(grid.scale.astype(np.float64)).to(wide)
    scale = scale.reshape(groups, 1, -1).expand(-1, parts, -1).reshape(pieces, -1)
    limit = grid.limits[1]
    alike = alike.to(wide) / max(count, 1)
    diagonal = alike.diagonal(dim1=1, dim2=2)
    strength = diagonal.mean(1).clamp_min(1e-30)
    damping = strength * (DAMPING + n / max(count, 1))
    alike = alike + torch.diag_embed(damping[:, None].expand(pieces, n))
    if cross is not None:
        cross = cross.to(wide) / max(count, 1) + torch.diag_embed(damping[:, None].expand(pieces, n))
        rows = torch.linalg.solve(alike, (rows @ cross).transpose(1, 2)).transpose(1, 2)
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
    made = chosen.gather(2, back[:, None, :].expand_as(chosen)).reshape(groups, parts, -1, n)
    return made.transpose(1, 2).reshape(weight.shape).to(torch.float32).numpy()
