"""Products, hard sigmoids and functions of one value as LiteRT's reference kernels compute them.

Sigmoid, tanh and GELU are tables: the kernel computes the 256 possible answers in float32 when it loads the file. For
others the file holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph.ops import ELU, GELU, Mish, Op, Sigmoid, Softplus, Tanh, Unary
from edgeq.integer.fixedpoint import Int, multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import Quantization

__all__ = ["TABLES", "HardSigmoidLayer", "answers", "hard_sigmoid", "product"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


LARGEST_BIAS = {"int8": 2.0**30, "int16": 2.0**45}
"""By the type of activations: half of what the kernels' sums hold, as in `edgeq.quant.freeze`."""


def product(x: Array, y: Array, one: Quantization, other: Quantization, output: Quantization) -> Int:
    """int8 product of two int8 arrays, which broadcast."""
    total = (x.astype(np.int64) - int(one.zero_point)) * (y.astype(np.int64) - int(other.zero_point))
    ratio = one.scale * other.scale / output.scale  # float32, as the kernel has it
    return np.clip(multiply(total, quantize_multiplier(ratio)) + int(output.zero_point), *output.limits)


def answers(op: Unary, source: Quantization, output: Quantization) -> npt.NDArray[np.int8]:
    """What `op` makes of every int8 from -128 to 127, ``(256,)``."""
    centred = (np.arange(-128, 128) - int(source.zero_point)).astype(np.float32)
    made = TABLES[type(op)](op, source.scale * centred)
    rescaled = made.astype(np.float32) * (np.float32(1) / output.scale)
    nearest = np.copysign(np.floor(np.abs(rescaled.astype(np.float64)) + 0.5), rescaled)
    return np.clip(nearest + int(output.zero_point), *output.limits).astype(np.int8)


def _each(function: Callable[[float], float]) -> Callable[[Floats], Floats]:
    """A C library's float32 function: the double's result, rounded."""
    return lambda x: np.array([function(float(v)) for v in x], np.float32)


def _exp(x: Floats) -> Floats:
    return np.exp(x.astype(np.float64)).astype(np.float32)


def _sigmoid(op: Any, x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(np.float32(1) / (np.float32(1) + _exp(-x)))


def _gelu(op: Any, x: Floats) -> Floats:
    half = np.float32(0.5) * x
    if op.approximate:
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(half * (np.float32(1) + _each(math.tanh)(inner)))
    return np.asarray(half * _each(math.erfc)(x * np.float32(-math.sqrt(0.5))))


def _elu(op: Any, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    below = op.alpha * np.expm1(np.minimum(op.input_scale * wide, 0))
    return np.asarray(op.scale * np.where(wide < 0, below, wide), np.float32)


def _softplus(op: Any, x: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, x.astype(np.float64)), np.float32)


def _mish(op: Any, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    return np.asarray(wide * np.tanh(np.logaddexp(0, wide)), np.float32)


TABLES: Mapping[type[Op], Callable[[Any, Floats], Floats]] = {
    Sigmoid: _sigmoid,
    Tanh: lambda op, x: _each(math.tanh)(x),
    GELU: _gelu,
    ELU: _elu,
    Softplus: _softplus,
    Mish: _mish,
}


@dataclass(frozen=True)
class HardSigmoidLayer:
    """A hard sigmoid as a depthwise convolution of one tap; its output's grid ends at 0 and 1, and so does it."""

    weight: int
    scale: np.float32
    bias: int

    @classmethod
    def reading(cls, source: Quantization) -> HardSigmoidLayer:
        """The finest weight whose bias fits into half of a sum: 0 for values that are all but 0.

        Where one step of the input leads from one half to an end, any slope does that is steep enough for it.
        """
        x = float(source.scale)
        slope = min(1 / 6, 0.5 / x)
        scale = np.float32(max(slope / 127, 0.5 / (x * LARGEST_BIAS[source.dtype])))
        return cls(round(slope / float(scale)), scale, round(0.5 / float(np.float32(x) * scale)))


def hard_sigmoid(x: Array, source: Quantization, output: Quantization) -> Int:
    """int8 or int16 hard sigmoid, as that convolution. An int16 grid goes on below 0: there a ReLU ends it."""
    layer = HardSigmoidLayer.reading(source)
    total = (x.astype(np.int64) - int(source.zero_point)) * layer.weight + layer.bias
    ratio = np.asarray(float(source.scale) * float(layer.scale) / float(output.scale))
    if source.dtype == "int16":
        return np.clip(multiply_wide(total, quantize_multiplier(ratio)), 0, output.limits[1])
    return np.clip(multiply(total, quantize_multiplier(ratio)) + int(output.zero_point), *output.limits)
