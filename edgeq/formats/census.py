"""The census of a file, or of a runtime that loaded it: counts of integer kernels, float ops and data movement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Census"]


@dataclass(frozen=True)
class Census:
    """Counts of one model. `kinds` maps the runtime's own op name to how often it occurs; the rest are sums over it.

    `quantize` and `dequantize` count *inner* conversions, the ones at the model's inputs and outputs not included.
    `requantize` counts those between integers of two widths, which are how 8-bit and 16-bit ops meet and no fault.
    `spatial_pads` are padding ops over height or width that a convolution or pooling might have carried.
    """

    kinds: Mapping[str, int]
    float_ops: int
    transposes: int
    quantize: int
    dequantize: int
    spatial_pads: int = 0
    float_convolutions: int = 0
    float_matmuls: int = 0
    requantize: int = 0

    @property
    def ops(self) -> int:
        return sum(self.kinds.values())

    @property
    def clean(self) -> bool:
        """All integer and nothing transposed. A pad is no fault: it may be what costs least."""
        return not (self.float_ops or self.transposes or self.quantize or self.dequantize)
