"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR as LiteRT's reference kernels compute them on int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph.ops import Resize2d
from edgeq.graph.ops.nearest import NEAREST_MODES, nearest_pixels

__all__ = ["mirrors", "resize"]

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]

BITS = 10
"""Fractional bits of a position between two pixels."""
ONE = 1 << BITS


def resize(x: Array, op: Resize2d) -> Array:
    """``(N, C, H, W)`` integers to ``(N, C, *op.size)``, same scale and zero point."""
    if op.mode in NEAREST_MODES:
        rows, columns = (nearest_pixels(size, out, op.mode) for size, out in zip(x.shape[2:], op.size, strict=True))
        return x[:, :, rows][:, :, :, columns]
    y_low, y_high, y_part = _between(x.shape[2], op.size[0], op.align_corners)
    x_low, x_high, x_part = _between(x.shape[3], op.size[1], op.align_corners)
    wide = x.astype(np.int64)
    top = wide[:, :, y_low] * (ONE - y_part)[:, None] + wide[:, :, y_high] * y_part[:, None]
    total = top[:, :, :, x_low] * (ONE - x_part) + top[:, :, :, x_high] * x_part
    half = np.where(total > 0, ONE * ONE // 2, -(ONE * ONE // 2))
    return _divide_truncating(total + half, ONE * ONE)


def mirrors(size: int, out: int, op: Resize2d) -> bool:
    """Whether resizing a mirrored axis of `size` pixels to `out` gives the mirrored result, to the last integer.

    True where every position is a whole number of the kernel's fractions; a rounded step runs away from one end.
    Nearest: where the pixels it takes are the same from either end.
    """
    if op.mode in NEAREST_MODES:
        pixels = nearest_pixels(size, out, op.mode)
        return bool(np.array_equal(pixels, size - 1 - pixels[::-1]))
    if op.align_corners:
        return out > 1 and ONE * (size - 1) % (out - 1) == 0
    return ONE * size % out == 0 and ONE * size // out % 2 == 0


def _between(size: int, out: int, align_corners: bool) -> tuple[Int, Int, Int]:
    """Find, for every output position, the input pixels before and behind it and its distance from the former."""
    step = (ONE * size + out // 2) // out
    if align_corners and out > 1:
        step = (ONE * (size - 1) + (out - 1) // 2) // (out - 1)
    positions = np.arange(out, dtype=np.int64) * step
    if not align_corners:
        positions += step // 2 - ONE // 2
    low = np.clip(_divide_truncating(positions, ONE), 0, size - 1)
    high = np.minimum(_divide_truncating(positions + ONE - 1, ONE), size - 1)
    return low, high, positions - ONE * low


def _divide_truncating(x: Int, divisor: int) -> Int:
    """Division as in C, towards zero."""
    return np.asarray(np.sign(x) * (np.abs(x) // divisor))
