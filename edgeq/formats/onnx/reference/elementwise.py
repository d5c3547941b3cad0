"""How ONNX Runtime's kernels add, multiply and take sigmoids of 8-bit integers, and what is made of those."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.formats.onnx.reference.rescale import limit, nearest
from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.graph.ops import GELU, Add, Clamp, HardSigmoid, LeakyReLU, Maximum, Mul, Sigmoid, Tabulated, Tanh, Unary
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.reference.elementwise import answers

__all__ = ["GATE", "SIGMOID", "THREE"]


def _fixed(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.float32(scale), np.int32(zero_point))  # type: ignore[arg-type]


SIGMOID = _fixed(1 / 256, -128)
"""Grid of every sigmoid."""
THREE = _fixed(3.0, 0)
"""Grid on which 1 is what a hard sigmoid adds."""
GATE = _fixed(6 / 255, -128)
"""Grid of ``relu6(x + 3)``: it saturates where relu6 does. Read as 0..1, its integers are divided by 6."""


def _sum(a: Integers, b: Integers, one: Quantization, other: Quantization, y: Quantization, shift: int) -> Integers:
    """A fused multiply-add per input around a fixed part, which is made with one itself (where the CPU has them)."""
    zero_a, zero_b, zero_y = (np.float32(grid.zero_point + shift) for grid in (one, other, y))
    ratio_a, ratio_b = one.scale / y.scale, other.scale / y.scale
    fixed = zero_y - _multiply_add(zero_a, ratio_a, ratio_b * zero_b)
    first, second = (np.asarray(array, np.float64) + shift for array in (a, b))
    total = _multiply_add(first, ratio_a, _multiply_add(second, ratio_b, fixed))
    return limit(np.rint(total) - shift, y)


def _multiply_add(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Any:
    """``a * b + c`` rounded to float32 once: float64 holds the product of two float32 numbers exactly."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    return (product + np.asarray(c, np.float64)).astype(np.float32)


def _logistic(x: Integers, source: Quantization) -> Integers:
    """On its own grid, half to even."""
    real = source.dequantize(x).astype(np.float64)
    result = (1 / (1 + np.exp(-real))).astype(np.float32)
    return limit(np.rint(result / SIGMOID.scale).astype(np.float64) + int(SIGMOID.zero_point), SIGMOID)


@KERNELS.rule(Add)
def _add(graph: IntegerGraph, node: Node, op: Add, inputs: list[Integers], shift: int) -> Integers:
    one, other, y = (graph.quantizations[name] for name in (*node.inputs, node.name))
    return limit(_sum(inputs[0], inputs[1], one, other, y, shift), y, op.activation)


@KERNELS.rule(Mul)
def _mul(graph: IntegerGraph, node: Node, op: Mul, inputs: list[Integers], shift: int) -> Integers:
    """The exact integer product times a float32 ratio of scales, the zero point added to it; half to even."""
    one, other, y = (graph.quantizations[name] for name in (*node.inputs, node.name))
    product = (inputs[0].astype(np.int64) - int(one.zero_point)) * (inputs[1].astype(np.int64) - int(other.zero_point))
    total = _multiply_add(product, one.scale * other.scale / y.scale, np.float32(y.zero_point + shift))
    return limit(np.rint(total) - shift, y)


@KERNELS.rule(Sigmoid)
def _sigmoid(graph: IntegerGraph, node: Node, op: Sigmoid, inputs: list[Integers], shift: int) -> Integers:
    return _logistic(inputs[0], graph.quantizations[node.inputs[0]])


@KERNELS.rule(Tanh)
def _tanh(graph: IntegerGraph, node: Node, op: Tanh, inputs: list[Integers], shift: int) -> Integers:
    x = graph.quantizations[node.inputs[0]]
    return _logistic(inputs[0], Quantization(np.float32(2) * x.scale, x.zero_point))


@KERNELS.rule(HardSigmoid)
def _hard_sigmoid(graph: IntegerGraph, node: Node, op: HardSigmoid, inputs: list[Integers], shift: int) -> Integers:
    """A sum that saturates at 0 and 6, on a grid of six times the scale."""
    return _sum(inputs[0], np.ones((), np.int8), graph.quantizations[node.inputs[0]], THREE, GATE, shift)


@KERNELS.rule(GELU, Tabulated)
def _look_up(graph: IntegerGraph, node: Node, op: Unary, inputs: list[Integers], shift: int) -> Integers:
    """A table, which is exact."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    return np.asarray(answers(op, x, y)[inputs[0].astype(np.int64) + 128])


@KERNELS.rule(LeakyReLU)
def _leaky_relu(graph: IntegerGraph, node: Node, op: LeakyReLU, inputs: list[Integers], shift: int) -> Integers:
    real = graph.quantizations[node.inputs[0]].dequantize(inputs[0])
    return nearest(np.where(real >= 0, real, real * np.float32(op.slope)), graph.quantizations[node.name])


@KERNELS.rule(Clamp)
def _clamp(graph: IntegerGraph, node: Node, op: Clamp, inputs: list[Integers], shift: int) -> Integers:
    return nearest(graph.quantizations[node.inputs[0]].dequantize(inputs[0]), graph.quantizations[node.name], op)


@KERNELS.rule(Maximum)
def _maximum(graph: IntegerGraph, node: Node, op: Maximum, inputs: list[Integers], shift: int) -> Integers:
    return np.maximum(*inputs)
