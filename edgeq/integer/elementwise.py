"""Products, hard swish and functions of one value as LiteRT's reference kernels compute them.

Sigmoid, tanh and GELU are tables: the kernel computes the 256 possible answers in float32 when it loads the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.elementwise import GELU, HardSwish, Sigmoid, Tanh, Unary
from edgeq.graph.ops import Op
from edgeq.integer.fixedpoint import Int, multiply, quantize_multiplier, rounding_shift
from edgeq.integer.graph import Quantization

__all__ = ["TABLES", "answers", "hard_swish", "product"]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def product(x: Array, y: Array, one: Quantization, other: Quantization, output: Quantization) -> Int:
    """int8 product of two int8 arrays, which broadcast."""
    total = (x.astype(np.int64) - int(one.zero_point)) * (y.astype(np.int64) - int(other.zero_point))
    ratio = one.scale * other.scale / output.scale  # float32, as the kernel has it
    return np.clip(multiply(total, quantize_multiplier(ratio)) + int(output.zero_point), *output.limits)


def answers(op: Unary, source: Quantization, output: Quantization) -> npt.NDArray[np.int8]:
    """What `op` makes of every int8 from -128 to 127, ``(256,)``."""
    if isinstance(op, HardSwish):
        return hard_swish(np.arange(-128, 128), source, output).astype(np.int8)
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


TABLES: Mapping[type[Op], Callable[[Any, Floats], Floats]] = {
    Sigmoid: _sigmoid,
    Tanh: lambda op, x: _each(math.tanh)(x),
    GELU: _gelu,
}

_HIGH = 1 << 15


def hard_swish(x: Array, source: Quantization, output: Quantization) -> Int:
    """int8 hard swish in 16 bits: input and ``relu6(x + 3) / 6`` on finer grids, multiplied.

    Raises `UnsupportedError` where the output's grid is more than 128 times finer than the input's: the runtime's
    kernel aborts the process.
    """
    fine = np.asarray(source.scale * np.float32(1 / 128))
    out, out_exponent = _multiplier16(np.asarray(fine / output.scale))
    gate, gate_exponent = _multiplier16(np.asarray(fine / np.float32(3 / 32768)))
    if out_exponent > 0:
        raise UnsupportedError(
            "hard swish onto a grid 128 times finer than its input's", why="LiteRT's kernel aborts on it",
            hint="the calibration set leaves its output almost constant",
        )  # fmt: skip
    wide = (x.astype(np.int64) - int(source.zero_point)) << 7
    scaled = _rounding_high(wide, out)
    reluish = wide
    if gate_exponent > 0:
        reluish = _saturate(reluish << (gate_exponent - 1))
    reluish = _rounding_high(reluish, gate)
    if gate_exponent > 0:
        reluish = _saturate(reluish << 1)
    elif gate_exponent < 0:
        reluish = rounding_shift(reluish, -gate_exponent)
    reluish = (reluish + _HIGH) >> 1
    both = reluish * scaled
    result = rounding_shift(np.sign(both) * (np.abs(both) >> 15), -out_exponent)
    return np.clip(result + int(output.zero_point), *output.limits)


def _multiplier16(real: npt.NDArray[np.float32]) -> tuple[int, int]:
    fraction, exponent = (int(part) for part in quantize_multiplier(real))
    return min((fraction + _HIGH) >> 16, _HIGH - 1), exponent


def _rounding_high(x: Int, factor: int) -> Int:
    """``x * factor / 2^15``, halves up, in 16 bits."""
    return _saturate((x * factor + (1 << 14)) >> 15)


def _saturate(x: Int) -> Int:
    return np.clip(x, -_HIGH, _HIGH - 1)
