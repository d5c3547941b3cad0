"""Softmax, means of squares and inverse square roots as LiteRT's reference kernels compute them.

A mean of squares is BATCH_MATMUL of a pixel's channels with themselves. An inverse square root starts at 1, after
shifts by pairs of bits, and takes five Newton steps in fixed point.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.integer.fixedpoint import Int, high_product, multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import LIMITS, IntegerGraph, Quantization
from edgeq.integer.reference.softmax import softmax
from edgeq.integer.reference.table import KERNELS, Array
from edgeq.integer.reference.wide import WIDE, wide_softmax

__all__ = ["eps_steps", "rsqrt", "rsqrt_table", "sum_grid"]

ONE = 1 << 28
"""1 with three integer bits."""
HALF_ROOT = 1518500250
"""Half the root of 2, with none."""
HEADROOM = 20


def eps_steps(op: ops.MeanSquare, output: Quantization) -> int:
    """What `eps` is on the output's grid, as far as that goes."""
    steps = round(op.eps / float(output.scale))
    return min(steps, output.limits[1] - int(output.zero_point))


def sum_grid(output: Quantization, channels: int) -> Quantization:
    """The grid of a mean of so many squares, read as their sum."""
    return replace(output, scale=np.asarray(output.scale * np.float32(channels)))


def rsqrt(x: Array, source: Quantization, output: Quantization) -> Int:
    """int8 of integers at or above the input's zero point; at it, the largest there is."""
    steps = x.astype(np.int64) - int(source.zero_point)
    fraction, exponent = _inverse_root(np.maximum(steps, 1))
    data = multiply(np.ones_like(steps), (fraction, exponent + HEADROOM))
    ratio = quantize_multiplier(1.0 / (np.sqrt(np.float64(source.scale)) * float(output.scale)))
    result = multiply(data, (ratio[0], ratio[1] - HEADROOM)) + int(output.zero_point)
    return np.where(steps == 0, LIMITS[output.dtype][1], np.clip(result, *output.limits))


def rsqrt_table(source: Quantization, output: Quantization) -> npt.NDArray[np.int8]:
    """The results for every int8 from -128 to 127, ``(256,)``; inputs below the zero point do not occur."""
    every = np.maximum(np.arange(-128, 128), int(source.zero_point))
    return rsqrt(every, source, output).astype(np.int8)


def _inverse_root(x: Int) -> tuple[Int, Int]:
    """Fraction and exponent of ``1 / sqrt(x)`` for whole numbers above 0."""
    pairs = np.maximum((31 - _bits(x)) // 2 - 1, 0)
    value = x << (2 * pairs)
    half_input, root = _nearest_half(value >> 1), np.full_like(x, ONE)
    for _ in range(5):
        cube = high_product(high_product(root, root), root) << 6
        root = (high_product(np.full_like(x, 3 * ONE // 2), root) - high_product(half_input, cube)) << 3
    root, shift = high_product(root, np.full_like(x, HALF_ROOT)), 11 - pairs
    root, shift = np.where(shift < 0, root << np.maximum(-shift, 0), root), np.maximum(shift, 0)
    return np.where(x <= 1, (1 << 31) - 1, root), np.where(x <= 1, 0, -shift)


def _bits(x: Int) -> Int:
    """How many bits each positive number takes."""
    return np.asarray(np.frexp(x.astype(np.float64))[1], np.int64)


def _nearest_half(x: Int) -> Int:
    """Halves up."""
    return np.asarray((x + 1) >> 1)


@KERNELS.rule(ops.MeanSquare)
def _mean_square(graph: IntegerGraph, node: Node, op: ops.MeanSquare, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    total = (centred * centred).sum(axis=1, keepdims=True)
    product = source.scale * source.scale  # in float32, as the kernel has it
    ratio = quantize_multiplier(float(product) / float(sum_grid(output, inputs[0].shape[1]).scale))
    scale = multiply_wide if source.dtype == "int16" else multiply
    return np.clip(scale(total, ratio) + int(output.zero_point) + eps_steps(op, output), *output.limits)


@KERNELS.rule(ops.Rsqrt)
def _rsqrt(graph: IntegerGraph, node: Node, op: ops.Rsqrt, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    if source.dtype == "int16":
        return WIDE.get(op)(op, inputs[0].astype(np.int64), source, output)
    return rsqrt(inputs[0], source, output)


@KERNELS.rule(ops.Softmax)
def _softmax(graph: IntegerGraph, node: Node, op: ops.Softmax, inputs: list[Array]) -> Array:
    source, x = graph.quantizations[node.inputs[0]], inputs[0].astype(np.int64)
    if source.dtype == "int16":
        return wide_softmax(x, np.float32(source.scale) * np.float32(op.beta), op.axis)
    return softmax(x, float(source.scale) * op.beta, op.axis)
