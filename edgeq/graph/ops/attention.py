"""Products of two activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgeq.graph.ops.base import Op, Shape, register, require
from edgeq.graph.ops.norms import MOST_SQUARES

__all__ = ["MatMul"]


@register
@dataclass(frozen=True)
class MatMul(Op):
    """Matrix products of two activations, ``(1, ..., M, K)`` by ``(1, ..., K, N)``, or by ``(1, ..., N, K)`` with
    `transposed`. The dimensions before the last two are equal. Values of four dimensions are pictures, so matrices
    have three or five and more.
    """

    transposed: bool = False
    gains_bits: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        ranks = {len(shape) for shape in inputs}
        require(len(inputs) == 2 and len(ranks) == 1, self, inputs, "takes two inputs of one rank")
        require(min(ranks) >= 3 and ranks != {4}, self, inputs, "takes three dimensions, or five and more")
        (*batch, rows, inner), other = inputs
        columns, depth = other[-2:] if self.transposed else other[:-3:-1]
        require(tuple(batch) == other[:-2], self, inputs, "dimensions before the last two differ")
        require(inner == depth, self, inputs, f"multiplies rows of {inner} by columns of {depth}")
        require(inner <= MOST_SQUARES, self, inputs, f"sums more than {MOST_SQUARES} products")
        return (*batch, rows, columns)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output) * inputs[0][-1]
