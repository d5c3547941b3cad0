"""Op kinds that compute value by value: products, scaling by constants, and the smooth activation functions.

SiLU is a `Sigmoid` and a `Mul`, hard sigmoid an `Affine` and a `Clamp`: what an op can be made of has no kind here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.graph.ops.base import Op, Shape, broadcast, register, require
from edgeq.graph.ops.layers import UNIT, Clamp, Softmax

__all__ = [
    "ELU",
    "GELU",
    "TABULATED",
    "Affine",
    "HardSigmoid",
    "HardSwish",
    "Maximum",
    "Mish",
    "Mul",
    "Requantize",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "Unary",
    "fixed_grid",
]


@register
@dataclass(frozen=True)
class Mul(Op):
    """Product of two activations of one rank; a dimension of 1 is repeated, as in squeeze-and-excitation."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        return broadcast(self, inputs)


@register
@dataclass(frozen=True)
class Maximum(Op):
    """The larger of two activations of one shape: of integers on one grid, the larger integer."""

    shares_quantization: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 2 and inputs[0] == inputs[1], self, inputs, "takes two inputs of one shape")
        return inputs[0]


@register
@dataclass(frozen=True)
class Affine(Op):
    """Inputs: x ``(N, C, ...)``, scale ``(C,)``, shift ``(C,)``: ``x * scale + shift``. `fold_batchnorm` removes it."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 3 and len(inputs[0]) >= 2, self, inputs, "takes x, scale, shift")
        require(all(s == (inputs[0][1],) for s in inputs[1:]), self, inputs, "constants are not one per channel")
        return inputs[0]


@register
@dataclass(frozen=True)
class Requantize(Op):
    """The same values as integers of another type: where 8-bit and 16-bit ops meet. `bits` are those of the output."""

    bits: int

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and self.bits in (8, 16), self, inputs, "takes one input, makes 8 or 16 bits")
        return inputs[0]


@dataclass(frozen=True)
class Unary(Op):
    """A function of each value alone."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        return inputs[0]


@register
@dataclass(frozen=True)
class Sigmoid(Unary):
    """``1 / (1 + exp(-x))``."""


@register
@dataclass(frozen=True)
class Tanh(Unary):
    """Hyperbolic tangent."""


@register
@dataclass(frozen=True)
class HardSigmoid(Unary):
    """``relu6(x + 3) / 6``, where it is no layer's end but half of a hard swish."""


@register
@dataclass(frozen=True)
class HardSwish(Unary):
    """``x * relu6(x + 3) / 6``; `optimize` makes a hard sigmoid and a product of it."""


@register
@dataclass(frozen=True)
class GELU(Unary):
    """``x`` times the normal distribution function, or with `approximate` Hendrycks and Gimpel's tanh form of it."""

    approximate: bool = False


@register
@dataclass(frozen=True)
class ELU(Unary):
    """``scale * x`` above 0, ``scale * alpha * (exp(input_scale * x) - 1)`` below; SELU and CELU are such, too."""

    alpha: float = 1.0
    scale: float = 1.0
    input_scale: float = 1.0


@register
@dataclass(frozen=True)
class Softplus(Unary):
    """``log(1 + exp(x))``."""


@register
@dataclass(frozen=True)
class Mish(Unary):
    """``x * tanh(log(1 + exp(x)))``."""


TABULATED = (ELU, Mish, Softplus)
"""Kinds without an integer kernel: looked up in a table of 256, which int16 does not have."""

_FIXED: Mapping[type[Op], tuple[float, int]] = {Sigmoid: (1 / 256, -128), Tanh: (1 / 128, 0), Softmax: (1 / 256, -128)}
_UNIT = float(np.float32(1 / 255)), -128
_WIDE_UNIT = float(np.float32(1 / 32767)), 0


def fixed_grid(op: Op, bits: int = 8) -> tuple[float, int] | None:
    """Scale and zero point of an op's output, int8 or with 16 `bits` int16, that no calibration decides; None where
    there is a choice.

    TFLite's kernels demand theirs of sigmoid, tanh and softmax. What ends in 0..1 has a grid that ends there, so that
    saturation is the clamp: no kernel can fuse that one. (An int16 grid goes on below 0, where a ReLU ends it.)
    """
    clamp = op if isinstance(op, Clamp) else getattr(op, "activation", None)
    unit = clamp == UNIT or isinstance(op, HardSigmoid)
    if bits == 16:
        return _WIDE_UNIT if unit else ((1 / 32768, 0) if type(op) in _FIXED else None)
    return _UNIT if unit else _FIXED.get(type(op))
