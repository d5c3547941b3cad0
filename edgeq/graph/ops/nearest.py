"""Which pixel nearest-neighbour resizing takes, in the float32 arithmetic of torch and of LiteRT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["NEAREST_MODES", "is_certain", "nearest_pixels"]

NEAREST_MODES = {"nearest": 0.0, "nearest-exact": 0.5}
"""What each mode of `torch.nn.functional.interpolate` adds to an output position before it scales it, in pixels."""

Pixels = npt.NDArray[np.int64]


def nearest_pixels(size: int, out: int, mode: str, ratio: float | None = None) -> Pixels:
    """The input position of each of `out` output positions along an axis of `size` pixels, ``(out,)``.

    `ratio` is input pixels per output pixel, ``size / out`` unless given: torch uses ``1 / scale_factor`` where it was
    called with one. The ratio and its multiples are rounded to float32, so a position that is a whole number in exact
    arithmetic may come out as the pixel before it, in torch too.
    """
    step = np.float32(size) / np.float32(out) if ratio is None else np.float32(ratio)
    return _limited((np.arange(out, dtype=np.float32) + np.float32(NEAREST_MODES[mode])) * step, size)


def is_certain(size: int, out: int, mode: str) -> bool:
    """Whether torch takes the same pixels for every memory layout and processor.

    Its kernels for "nearest-exact" compute ``floor(y)`` or ``floor((y - 0.5) + 0.5)``, the latter with one rounding or
    two, and these differ for a few pairs of sizes.
    """
    if mode == "nearest":
        return True
    half, step = np.float32(0.5), np.float32(size) / np.float32(out)
    centres = np.arange(out, dtype=np.float32) + half
    once = (centres.astype(np.float64) * float(step) - 0.5).astype(np.float32)
    others = (_limited(shifted + half, size) for shifted in (centres * step - half, once))
    plain = nearest_pixels(size, out, mode)
    return all(np.array_equal(plain, other) for other in others)


def _limited(positions: npt.NDArray[np.float32], size: int) -> Pixels:
    return np.minimum(np.floor(positions).astype(np.int64), size - 1)
