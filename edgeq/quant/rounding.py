"""GPTQ: round weights of few bits so that the errors cancel in the output, instead of each to its nearest integer.

Optimal brain quantization (Frantar, Singh, Alistarh, "Optimal Brain Compression", NeurIPS 2022) in GPTQ's fixed order
(arXiv 2210.17323): the correlation of a layer's inputs is X Xᵀ, and rounding one weight moves the weights that are not
yet rounded to where they compensate the error. It is a closed form: one pass over the calibration set, no training.
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
"""The most bits of weights that are rounded this way. With seven, the gap to the float network on held-out synthetic
images is a sixth smaller at best and may be larger, for several times the time (`benchmarks/compensation.py`)."""

POSITIONS = 1024
"""Output positions that an image contributes to a layer's statistics; neighbours add little."""

CHUNK = 4
"""Images processed at a time; a column of X is as long as a window has values, so memory limits it."""

DAMPING = 0.01
BLOCK = 128

LONGEST = 4608
"""The most weights of an output whose errors compensate each other, 512 channels of 3 x 3. More are split into equal
parts that are treated as uncorrelated: time grows with the cube and memory with the square of the number, and VGG's
first linear layer has 25,088."""


def likeness(
    node: Node, shape: tuple[int, ...], value: Tensor, exact: Tensor | None = None
) -> tuple[Tensor, Tensor, int]:
    """Correlate the inputs of a layer: X Xᵀ, E Xᵀ, and the number of columns of X.

    X is what the layer's weights (of `shape`) multiply in `value`, E what they multiply in `exact`, by default the
    same. Both products are ``(groups, n, n)`` for n weights of an output channel; with n above `LONGEST` they are
    ``(groups * parts, n / parts, n / parts)``.
    """
    alike = cross = torch.zeros(())
    count = 0
    for start in range(0, len(value), CHUNK):
        x = _split(_columns(node, shape, value[start : start + CHUNK]))
        e = x if exact is None else _split(_columns(node, shape, exact[start : start + CHUNK]))
        alike, cross, count = alike + x @ x.transpose(1, 2), cross + e @ x.transpose(1, 2), count + x.shape[2]
    return alike, cross, count


def _split(columns: Tensor) -> Tensor:
    groups, n, count = columns.shape
    parts = next(parts for parts in range(1, n + 1) if n % parts == 0 and n // parts <= LONGEST)
    return columns.reshape(groups * parts, n // parts, count)


def _columns(node: Node, shape: tuple[int, ...], value: Tensor) -> Tensor:
    """The inputs of evenly spaced output positions, one column per position: ``(groups, n, columns)``."""
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
    """Round `weight` to points of `grid`, compensating errors by `alike` = X Xᵀ of `likeness` over `count` columns.

    With `cross` = E Xᵀ it also compensates for X being inexact: Ŵ X is then brought near W E. The fewer columns, the
    more the correlations are damped: with none, every weight goes to its nearest integer.
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
    result = chosen.gather(2, back[:, None, :].expand_as(chosen)).reshape(groups, parts, -1, n)
    return result.transpose(1, 2).reshape(weight.shape).to(torch.float32).numpy()
