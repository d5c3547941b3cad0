"""Ops that compute value by value: clamps, sums, products, scaling by constants, and activation functions.

SiLU is a `Sigmoid` and a `Mul`, hard sigmoid an `Affine` and a `Clamp`: what an op can be made of has no kind here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgeq.graph.ops.base import Op, Shape, broadcast, register, require

__all__ = [
    "ELU",
    "GELU",
    "NEGATIVE",
    "RELU",
    "RELU6",
    "UNIT",
    "Add",
    "Affine",
    "Clamp",
    "Exp",
    "Fusing",
    "HardSigmoid",
    "HardSwish",
    "LeakyReLU",
    "Log",
    "Maximum",
    "Mish",
    "Mul",
    "Power",
    "Requantize",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Tabulated",
    "Tanh",
    "Unary",
]


def _unit_grid(bits: int) -> tuple[float, int]:
    """The grid that ends at 0 and 1, an int16 one at 1 only."""
    return (float(np.float32(1 / 32767)), 0) if bits == 16 else (float(np.float32(1 / 255)), -128)


@dataclass(frozen=True)
class Unary(Op):
    """A function of each value alone."""

    unary: ClassVar[bool] = True
    elementwise: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        return inputs[0]


@register
@dataclass(frozen=True)
class Clamp(Unary):
    """Limit values to ``[minimum, maximum]``. ReLU and ReLU6 are clamps; a convolution, linear or add can carry one."""

    minimum: float = -math.inf
    maximum: float = math.inf
    keeps_bits: ClassVar[bool] = True
    activation_function: ClassVar[bool] = True

    @property
    def clamp(self) -> Clamp:
        return self

    def fixed_grid(self, bits: int = 8) -> tuple[float, int] | None:
        return _unit_grid(bits) if self == UNIT else None

    def non_negative(self, inputs: bool) -> bool:
        return self.minimum >= 0 or (inputs and self.maximum >= 0)

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return True  # within its limits, which scale with the channel


RELU = Clamp(0.0, math.inf)
RELU6 = Clamp(0.0, 6.0)
UNIT = Clamp(0.0, 1.0)
"""What ends a hard sigmoid."""
NEGATIVE = Clamp(maximum=0.0)
"""The other half of a ReLU."""


class Fusing(Op):
    """An op with an `activation` that is applied to its result."""

    activation: Clamp | None
    accepts_activation: ClassVar[bool] = True

    @property
    def clamp(self) -> Clamp | None:
        return self.activation

    @property
    def fused_activation(self) -> Clamp | None:
        return self.activation

    def with_activation(self, activation: Clamp | None) -> Op:
        op: Any = self  # its subclasses have the field
        changed: Op = dataclasses.replace(op, activation=activation)
        return changed

    def fixed_grid(self, bits: int = 8) -> tuple[float, int] | None:
        return None if self.activation is None else self.activation.fixed_grid(bits)

    def non_negative(self, inputs: bool) -> bool:
        limited = self.activation is not None and self.activation.minimum >= 0
        return limited or super().non_negative(inputs)


@register
@dataclass(frozen=True)
class Add(Fusing):
    """Sum of two activations of one rank; a dimension of 1 is repeated."""

    activation: Clamp | None = None
    elementwise: ClassVar[bool] = True
    gains_bits: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        return broadcast(self, inputs)

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return all(shape == output for shape in inputs)


@register
@dataclass(frozen=True)
class Mul(Op):
    """Product of two activations of one rank; a dimension of 1 is repeated, as in squeeze-and-excitation."""

    elementwise: ClassVar[bool] = True
    gains_bits: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        return broadcast(self, inputs)


@register
@dataclass(frozen=True)
class Maximum(Op):
    """The larger of two activations of one shape: of integers on one grid, the larger integer."""

    shares_quantization: ClassVar[bool] = True
    rounds: ClassVar[bool] = False
    elementwise: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 2 and inputs[0] == inputs[1], self, inputs, "takes two inputs of one shape")
        return inputs[0]


@register
@dataclass(frozen=True)
class Affine(Op):
    """Inputs: x ``(N, C, ...)``, scale ``(C,)``, shift ``(C,)``: ``x * scale + shift``. `fold_batchnorm` removes it."""

    lowering: ClassVar[str] = "fold it into a convolution first"

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 3 and len(inputs[0]) >= 2, self, inputs, "takes x, scale, shift")
        require(all(s == (inputs[0][1],) for s in inputs[1:]), self, inputs, "constants are not one per channel")
        return inputs[0]


@register
@dataclass(frozen=True)
class Requantize(Op):
    """Convert values to integers of another type, where 8-bit and 16-bit ops meet. `bits` are those of the output."""

    bits: int
    elementwise: ClassVar[bool] = True
    lowering: ClassVar[str] = "take it out with `remove_requantize` first"

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and self.bits in (8, 16), self, inputs, "takes one input, makes 8 or 16 bits")
        return inputs[0]

    @property
    def output_bits(self) -> int:
        return self.bits


@register
@dataclass(frozen=True)
class LeakyReLU(Unary):
    """``x`` above 0, ``slope * x`` below."""

    slope: float = 0.01
    activation_function: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return True


@register
@dataclass(frozen=True)
class Sigmoid(Unary):
    """``1 / (1 + exp(-x))``."""

    never_negative: ClassVar[bool] = True
    demanded_grid: ClassVar[tuple[float, int] | None] = (1 / 256, -128)


@register
@dataclass(frozen=True)
class Tanh(Unary):
    """Hyperbolic tangent."""

    keeps_sign: ClassVar[bool] = True
    demanded_grid: ClassVar[tuple[float, int] | None] = (1 / 128, 0)


@register
@dataclass(frozen=True)
class HardSigmoid(Unary):
    """``relu6(x + 3) / 6``, where it is no layer's end but half of a hard swish."""

    never_negative: ClassVar[bool] = True

    def fixed_grid(self, bits: int = 8) -> tuple[float, int] | None:
        return _unit_grid(bits)


@register
@dataclass(frozen=True)
class HardSwish(Unary):
    """``x * relu6(x + 3) / 6``; `optimize` makes a hard sigmoid and a product of it."""

    keeps_sign: ClassVar[bool] = True
    lowering: ClassVar[str] = "lower it with `optimize`"


@register
@dataclass(frozen=True)
class GELU(Unary):
    """``x`` times the normal distribution function, or with `approximate` Hendrycks and Gimpel's tanh form of it."""

    approximate: bool = False
    activation_function: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True


@dataclass(frozen=True)
class Tabulated(Unary):
    """A smooth function without an integer kernel in any runtime: looked up in a table of 256."""

    tabulated: ClassVar[bool] = True
    activation_function: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class ELU(Tabulated):
    """``scale * x`` above 0, ``scale * alpha * (exp(input_scale * x) - 1)`` below; SELU and CELU are such, too."""

    alpha: float = 1.0
    scale: float = 1.0
    input_scale: float = 1.0
    keeps_sign: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Softplus(Tabulated):
    """``log(1 + exp(x))``."""

    never_negative: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Mish(Tabulated):
    """``x * tanh(log(1 + exp(x)))``."""

    keeps_sign: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Exp(Tabulated):
    """``exp(x)``."""

    activation_function: ClassVar[bool] = False
    never_negative: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Log(Tabulated):
    """Natural logarithm of what is above 0; at or below 0 it is the logarithm of 1e-12."""

    activation_function: ClassVar[bool] = False


@register
@dataclass(frozen=True)
class Sin(Tabulated):
    """Sine of radians."""

    activation_function: ClassVar[bool] = False


@register
@dataclass(frozen=True)
class Power(Tabulated):
    """``x ** exponent``: a square root, an inverse and so on.

    An exponent that is no whole number reads 0 for what is below 0; a negative one reads 1e-12 for what is nearer to 0.
    """

    exponent: float = 0.5
    activation_function: ClassVar[bool] = False

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(math.isfinite(self.exponent) and self.exponent != 0, self, inputs, f"cannot raise to {self.exponent}")
        return super().infer(inputs)

    @property
    def whole(self) -> bool:
        """Whether the exponent is a whole number."""
        return self.exponent == int(self.exponent)

    @property
    def reads_ratios(self) -> bool:
        return self.exponent < 0

    def non_negative(self, inputs: bool) -> bool:
        return inputs or not self.whole or self.exponent % 2 == 0
