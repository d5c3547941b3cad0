"""Nearest-neighbour resizing in onnxruntime's float32 arithmetic: the scale that takes torch's pixels, if there is one.

onnxruntime divides each output position by the scale, where torch multiplies it by the inverse. Both round to float32,
and where a position is a whole number of input pixels one of them may land below it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ops.nearest import nearest_pixels

__all__ = ["FORMS", "nearest_scale"]

FORMS = {
    "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest-exact": {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
}
"""What a Resize node says of each mode."""

NEIGHBOURS = 4
"""How many float32 numbers on either side of ``out / size`` are tried. Further ones change the size of the output."""

MARGIN = 1e-3
"""Distance from a boundary between two pixels at which float32 cannot take the wrong one, in pixels."""


def nearest_scale(size: int, out: int, mode: str) -> np.float32 | None:
    """The float32 scale with which onnxruntime makes `out` pixels of `size`, and the very ones torch takes.

    None where no scale near ``out / size`` does; the pixels then have to be listed (Gather).
    """
    expected = nearest_pixels(size, out, mode)
    lower = higher = np.float32(out) / np.float32(size)
    candidates = [lower]
    for _ in range(NEIGHBOURS):
        lower, higher = np.nextafter(lower, np.float32(0)), np.nextafter(higher, np.float32(np.inf))
        candidates += [lower, higher]
    for scale in candidates:
        # The checker multiplies in float64, the runtime in float32; both cut off.
        sized = int(float(scale) * size) == int(scale * np.float32(size)) == out
        pixels = _pixels(size, out, scale, mode) if sized else None
        if pixels is not None and np.array_equal(pixels, expected):
            return scale
    return None


def _pixels(size: int, out: int, scale: np.float32, mode: str) -> npt.NDArray[np.int64] | None:
    """The pixels onnxruntime's Resize takes; None where they depend on how it rounds a difference of quotients."""
    if mode == "nearest":
        pixels = np.floor(np.arange(out, dtype=np.float32) / scale)
    else:
        positions = (np.arange(out) + 0.5) / float(scale)
        pixels = np.floor(positions)
        if min((positions - pixels).min(), (pixels + 1 - positions).min()) < MARGIN:
            return None
    return np.asarray(np.clip(pixels.astype(np.int64), 0, size - 1))
