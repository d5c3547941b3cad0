"""Batch norm, softmax, and what norms over a pixel's channels are made of beside the ops there are anyway.

A layer norm is ``d = x - mean(x)`` (a convolution and a sum), ``d * rsqrt(mean(d^2) + eps)``, and a scale and a shift
per channel, which become part of the layer that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgeq.graph.ops.base import Op, Shape, register, require
from edgeq.graph.ops.elementwise import Unary

__all__ = ["MOST_SQUARES", "BatchNorm", "MeanSquare", "Rsqrt", "Softmax"]

MOST_SQUARES = (2**31 - 1) // 255**2
"""Channels whose squares an int32 sum holds, whatever they are."""


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """Inputs: x ``(N, C, ...)``, then gamma, beta, running mean, running variance, each ``(C,)``. Inference form."""

    eps: float = 1e-5
    lowering: ClassVar[str] = "fold it into a convolution first"

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 5 and len(inputs[0]) >= 2, self, inputs, "takes x, gamma, beta, mean, variance")
        require(all(s == (inputs[0][1],) for s in inputs[1:]), self, inputs, "parameters are not one per channel")
        return inputs[0]


@register
@dataclass(frozen=True)
class Softmax(Op):
    """Softmax of `beta` times the input, over what files have last: the channels of ``(N, C, H, W)``, else the last
    dimension."""

    axis: int = 1
    beta: float = 1.0
    never_negative: ClassVar[bool] = True
    demanded_grid: ClassVar[tuple[float, int] | None] = (1 / 256, -128)

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) >= 2, self, inputs, "takes one input")
        last = 1 if len(inputs[0]) == 4 else len(inputs[0]) - 1
        require(self.axis == last, self, inputs, f"runs along {last}, not {self.axis}")
        return inputs[0]


@register
@dataclass(frozen=True)
class MeanSquare(Op):
    """Mean over channels of the squares, plus `eps`: ``(N, C, H, W)`` to ``(N, 1, H, W)``."""

    eps: float = 1e-5
    gains_bits: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        n, c, h, w = inputs[0]
        require(c <= MOST_SQUARES, self, inputs, f"sums more than {MOST_SQUARES} squares")
        return (n, 1, h, w)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        _, c, h, w = inputs[0]
        return c * h * w


@register
@dataclass(frozen=True)
class Rsqrt(Unary):
    """``1 / sqrt(x)`` of what is above 0."""

    @property
    def reads_ratios(self) -> bool:
        return True
