"""How ONNX Runtime puts sums and real numbers onto an 8-bit grid: in float32, halves to even."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.formats.onnx.reference.table import Integers
from edgeq.graph.ops import (
    Clamp,
)
from edgeq.integer.graph import Quantization

__all__ = ["limit", "nearest", "requantize"]


def requantize(total: Integers, factor: npt.NDArray[np.float32], q: Quantization, clamp: Clamp | None) -> Integers:
    """MLAS's requantization: float32 product, half to even, zero point added to the integer."""
    scaled = np.rint(total.astype(np.float32) * factor)
    return limit(scaled.astype(np.float64) + int(q.zero_point), q, clamp)


def limit(integers: npt.NDArray[Any], q: Quantization, clamp: Clamp | None = None) -> Integers:
    """int8 integers within the grid's limits and `clamp`."""
    low, high = q.limits
    if clamp is not None and np.isfinite(clamp.minimum):
        low = int(q.quantize(np.float32(clamp.minimum)))  # type: ignore[arg-type]
    if clamp is not None and np.isfinite(clamp.maximum):
        high = int(q.quantize(np.float32(clamp.maximum)))  # type: ignore[arg-type]
    return np.clip(integers, low, high).astype(np.int8)


def nearest(real: npt.NDArray[np.float32], q: Quantization, clamp: Clamp | None = None) -> Integers:
    """QuantizeLinear: divide, half to even, saturate."""
    return limit(np.rint(real / q.scale).astype(np.float64) + int(q.zero_point), q, clamp)
