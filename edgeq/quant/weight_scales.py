"""Scales of weights below eight bits: per output channel, the scale of least squared error.

At eight bits the largest weight decides (nothing is clipped, and little is lost). With fewer, covering one outlier
costs every other weight of its channel more than clipping the outlier does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["max_scales", "mse_scales"]

FRACTIONS = np.linspace(1.0, 0.2, 81)
"""Candidate ranges, as shares of the channel's largest weight; the first wins among equals, so nothing is clipped for
nothing."""


def max_scales(weight: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.float64]:
    """max|w| / limit for each output channel (the first axis), ``(C_out,)``; 0 for a channel of zeros."""
    rows = weight.reshape(len(weight), -1)
    return np.asarray(np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64) / limit)


def mse_scales(weight: npt.NDArray[np.float32], limit: int) -> npt.NDArray[np.float64]:
    """Scales ``(C_out,)`` with the least squared distance between weights and their integers (±limit) times scale."""
    rows = weight.reshape(len(weight), -1).astype(np.float32)
    largest = max_scales(weight, limit)
    best, least = largest.copy(), np.full(len(rows), np.inf)
    for fraction in FRACTIONS:
        scale = np.maximum(largest * fraction, np.finfo(np.float32).tiny)
        held = rows / scale[:, None].astype(np.float32)
        np.rint(held, out=held)
        np.clip(held, -limit, limit, out=held)
        held *= scale[:, None].astype(np.float32)
        held -= rows
        error = np.einsum("ij,ij->i", held, held, dtype=np.float64)
        better = error < least
        best[better], least[better] = scale[better], error[better]
    return best
