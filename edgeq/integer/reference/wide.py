"""Smooth functions and softmax of int16 as LiteRT's reference kernels compute them: tables with lines between.

Sigmoid and tanh share one table of sigmoid(i / 24), with 16 fractional bits. The others have tables of 513 points
over all of int16. Every point is moved by half the error that the line to the next one makes in the middle.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph.ops import GELU, OpTable, Rsqrt, Sigmoid, Tanh
from edgeq.integer.fixedpoint import Int, multiply, quantize_multiplier
from edgeq.integer.graph import Quantization

__all__ = ["WIDE", "wide_softmax"]

Array = npt.NDArray[np.floating[Any]]
Grid = tuple[float, int]

LOW, HIGH = -(1 << 15), (1 << 15) - 1
STEPS = 512
EXP_RANGE = 10.0
"""exp(-10) counts as nothing."""


def _sigmoid_table() -> Int:
    """256 points of sigmoid(i / 24); the last is as good as 1."""

    def at(place: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(65536 / (1 + np.exp(-place / 24)))

    i = np.arange(256, dtype=np.float64)
    raised = at(i) + (at(i + 0.5) - (at(i) + at(i + 1)) / 2) / 2
    return np.append(np.floor(raised[:-1] + 0.5), 65535).astype(np.int64)


_SIGMOID = _sigmoid_table()


def _argument(x: Int, scale: np.float32) -> Int:
    """int16 of this scale in units of 1 / (3 x 4096). A power of two is exact, any other scale has 15 bits."""
    exponent = round(math.log2(float(scale)))
    if float(scale) == 2.0**exponent and exponent == -12:
        return np.asarray(x * 3)
    multiplier, shift = float(scale) * 4096.0 * 3.0, 0
    while multiplier <= HIGH / 2 and shift <= 30:
        multiplier, shift = 2 * multiplier, shift + 1
    return np.asarray((x * int(multiplier) + ((1 << shift) >> 1)) >> shift)


def _between(magnitude: Int, bits: int) -> Int:
    """Sigmoid of a magnitude with `bits` bits below a step of the table, times 2^(16 + bits)."""
    place = np.minimum(magnitude >> bits, 254)
    low, high = _SIGMOID[place], _SIGMOID[place + 1]
    return np.asarray((low << bits) + (magnitude & ((1 << bits) - 1)) * (high - low))


def _sigmoid(op: Any, x: Int, source: Quantization, output: Quantization) -> Int:
    argument = _argument(x, np.float32(source.scale))
    magnitude = np.abs(argument)
    result = np.where(magnitude >> 9 >= 255, 0x7FFF << 10, _between(magnitude, 9))
    return np.asarray(np.where(argument >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10)


def _tanh(op: Any, x: Int, source: Quantization, output: Quantization) -> Int:
    """2 sigmoid(2x) - 1."""
    argument = _argument(x, np.float32(source.scale))
    magnitude = np.abs(argument)
    result = np.where(magnitude >> 8 >= 255, 0xFFFF << 8, _between(magnitude, 8)) - (1 << 23)
    return np.asarray(np.where(argument >= 0, result + (1 << 7), (1 << 7) - 1 - result) >> 8)


def _table(function: Callable[[Array], Array], source: Grid, output: Grid, kind: type[np.floating[Any]]) -> Int:
    """`function` at 513 places over all of int16 on grid `source`, as int16 on grid `output`; computed in `kind`."""
    (scale, zero), (out_scale, out_zero) = (kind(source[0]), source[1]), (kind(output[0]), output[1])
    first, last = scale * kind(LOW - zero), scale * kind(HIGH - zero)
    step = (last - first) / kind(STEPS)
    i = np.arange(STEPS + 1).astype(kind)
    places = first + i * step
    places[-1] = last
    finer = kind(HIGH - LOW + 1) / (out_scale * kind(HIGH - out_zero) - out_scale * kind(LOW - out_zero))
    value, middle = function(places) * finer, function(places[:-1] + step / kind(2)) * finer
    following = function(first + i[1:] * step) * finer
    drawn = _nearest((following + _nearest(value[:-1])) / kind(2))
    table = _nearest(value)
    table[:-1] -= _nearest((drawn - _nearest(middle)) / kind(2))
    return np.clip(table, LOW, HIGH).astype(np.int64)


def _nearest(x: Array) -> Array:
    """Halves away from zero."""
    return np.asarray(np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x))


def _look_up(table: Int, x: Int) -> Int:
    """The line between the two points of `table` beside each int16 of `x`."""
    place = 256 + (x >> 7)
    base = table[place]
    return np.asarray(base + (((table[place + 1] - base) * (x & 127) + 64) >> 7))


_EXPONENTIAL = _table(np.exp, (EXP_RANGE / 65535, HIGH), (2 / 65535, 0), np.float64)
_RECIPROCAL = _table(lambda x: np.asarray(1 / (1 + x)), (1 / 65535, LOW), (2 / 65535, 0), np.float64)


def wide_softmax(x: Int, scale: np.float32, axis: int) -> Int:
    """int16 logits of this scale, along `axis`, to int16 probabilities of scale 1/32768."""
    ratio = quantize_multiplier(float(scale) / (EXP_RANGE / 65535))
    difference = multiply(x - x.max(axis=axis, keepdims=True), ratio)
    powers = _look_up(_EXPONENTIAL, np.clip(difference + HIGH, LOW, HIGH))
    total = powers.sum(axis=axis, keepdims=True)
    headroom = 32 - np.ceil(np.log2(total.astype(np.float64) + 0.5)).astype(np.int64)
    shifted = ((total << (headroom - 1)) + (1 << 13)) >> 14
    inverse = _look_up(_RECIPROCAL, np.clip(shifted - (1 << 15) - (1 << 16), LOW, HIGH))
    right = 31 - headroom
    return np.asarray(np.clip((powers * inverse + ((np.int64(1) << right) >> 1)) >> right, 0, HIGH))


@functools.cache
def _libm(name: str) -> Callable[[Array], Array]:
    """The C library's float32 function, value by value: the kernels call it, and it does not always round to the
    nearest, which at 16 bits can be seen. Where there is no such library: Python's, rounded."""
    try:
        function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), f"{name}f")
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    except (AttributeError, OSError, TypeError):
        function = getattr(math, name)
    return lambda x: np.array([function(float(v)) for v in x], np.float32)


def _gelu(op: Any, x: Int, source: Quantization, output: Quantization) -> Int:
    def at(v: Array) -> Array:
        half = np.float32(0.5) * v
        if op.approximate:
            inner = np.float32(math.sqrt(2 / math.pi)) * (v + np.float32(0.044715) * v * v * v)
            return np.asarray(half * (np.float32(1) + _libm("tanh")(inner)))
        return np.asarray(half * _libm("erfc")(v * np.float32(-math.sqrt(0.5))))

    return _look_up(_table(at, (float(source.scale), 0), (float(output.scale), 0), np.float32), x)


def _rsqrt(op: Any, x: Int, source: Quantization, output: Quantization) -> Int:
    """Up to 0 it is the largest value there is."""
    largest = np.float32(HIGH) * np.float32(output.scale)

    def at(v: Array) -> Array:
        return np.where(v > 0, np.float32(1) / np.sqrt(np.maximum(v, np.float32(1e-30))), largest)

    return _look_up(_table(at, (float(source.scale), 0), (float(output.scale), 0), np.float32), x)


WIDE: OpTable[Callable[[Any, Int, Quantization, Quantization], Int]] = OpTable(
    "of int16 has no reference", {Sigmoid: _sigmoid, Tanh: _tanh, GELU: _gelu, Rsqrt: _rsqrt}
)
"""int16 functions of one value."""
