"""Sums, products, clamps and functions of one value as LiteRT's reference kernels compute them.

Sigmoid, tanh and GELU are tables: the kernel computes the 256 possible answers in float32 when it loads the file. For
others the file holds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import OpTable
from edgeq.integer.fixedpoint import multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.reference.rescale import requantize, scale_of
from edgeq.integer.reference.table import KERNELS, Array
from edgeq.integer.reference.wide import WIDE

__all__ = ["ADD_HEADROOM", "HardSigmoidLayer", "answers"]

Floats = npt.NDArray[np.float32]

TABLES: OpTable[Callable[[Any, Floats], Floats]] = OpTable("has no table")
"""The float32 function behind each op that a kernel looks up in a table of 256."""

NEAREST_TO_0 = 1e-12
"""What logarithms and inverses read in place of what is nearer to 0, as in `edgeq.graph.run`."""

ADD_HEADROOM = {"int8": 20, "int16": 15}
"""Bits by which ADD shifts its inputs left before scaling them."""

LARGEST_BIAS = {"int8": 2.0**30, "int16": 2.0**45}
"""By the type of activations: half of what the kernels' sums hold, as in `edgeq.quant.freeze`."""


def answers(op: ops.Unary, source: Quantization, output: Quantization) -> npt.NDArray[np.int8]:
    """What `op` makes of every int8 from -128 to 127, ``(256,)``."""
    centred = (np.arange(-128, 128) - int(source.zero_point)).astype(np.float32)
    result = TABLES.get(op)(op, source.scale * centred)
    rescaled = result.astype(np.float32) * (np.float32(1) / output.scale)
    nearest = np.copysign(np.floor(np.abs(rescaled.astype(np.float64)) + 0.5), rescaled)
    return np.clip(nearest + int(output.zero_point), *output.limits).astype(np.int8)


def _each(function: Callable[[float], float]) -> Callable[[Floats], Floats]:
    """A C library's float32 function: the double's result, rounded."""
    return lambda x: np.array([function(float(v)) for v in x], np.float32)


def _exp(x: Floats) -> Floats:
    return np.exp(x.astype(np.float64)).astype(np.float32)


@TABLES.rule(ops.Sigmoid)
def _sigmoid(op: ops.Sigmoid, x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(np.float32(1) / (np.float32(1) + _exp(-x)))


@TABLES.rule(ops.Tanh)
def _tanh(op: ops.Tanh, x: Floats) -> Floats:
    return _each(math.tanh)(x)


@TABLES.rule(ops.GELU)
def _gelu(op: ops.GELU, x: Floats) -> Floats:
    half = np.float32(0.5) * x
    if op.approximate:
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(half * (np.float32(1) + _each(math.tanh)(inner)))
    return np.asarray(half * _each(math.erfc)(x * np.float32(-math.sqrt(0.5))))


@TABLES.rule(ops.ELU)
def _elu(op: ops.ELU, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    below = op.alpha * np.expm1(np.minimum(op.input_scale * wide, 0))
    return np.asarray(op.scale * np.where(wide < 0, below, wide), np.float32)


@TABLES.rule(ops.Softplus)
def _softplus(op: ops.Softplus, x: Floats) -> Floats:
    return np.asarray(np.logaddexp(0, x.astype(np.float64)), np.float32)


@TABLES.rule(ops.Mish)
def _mish(op: ops.Mish, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    return np.asarray(wide * np.tanh(np.logaddexp(0, wide)), np.float32)


@TABLES.rule(ops.Exp)
def _exponential(op: ops.Exp, x: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return _exp(x)


@TABLES.rule(ops.Log)
def _log(op: ops.Log, x: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(x.astype(np.float64), NEAREST_TO_0)), np.float32)


@TABLES.rule(ops.Sin)
def _sin(op: ops.Sin, x: Floats) -> Floats:
    return np.asarray(np.sin(x.astype(np.float64)), np.float32)


@TABLES.rule(ops.Power)
def _power(op: ops.Power, x: Floats) -> Floats:
    wide = x.astype(np.float64)
    if not op.whole:
        wide = np.maximum(wide, NEAREST_TO_0 if op.exponent < 0 else 0.0)
    elif op.exponent < 0:
        wide = np.where(np.abs(wide) < NEAREST_TO_0, NEAREST_TO_0, wide)
    with np.errstate(over="ignore"):
        return np.asarray(wide**op.exponent, np.float32)


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


@KERNELS.rule(ops.Add)
def _add(graph: IntegerGraph, node: Node, op: ops.Add, inputs: list[Array]) -> Array:
    output = graph.quantizations[node.name]
    sources = [graph.quantizations[name] for name in node.inputs]
    twice_largest = 2 * max(scale_of(q) for q in sources)
    total, headroom = np.zeros((), np.int64), ADD_HEADROOM[output.dtype]
    for x, q in zip(inputs if len(inputs) == 2 else inputs * 2, sources, strict=True):
        shifted = (x.astype(np.int64) - int(q.zero_point)) << headroom
        total = total + multiply(shifted, quantize_multiplier(scale_of(q) / twice_largest))
    back = quantize_multiplier(twice_largest / ((1 << headroom) * scale_of(output)))
    return requantize(total, back, output, op.activation, multiply)


@KERNELS.rule(ops.Clamp)
def _clamp(graph: IntegerGraph, node: Node, op: ops.Clamp, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    ratio = source.scale / output.scale  # float32, as the kernel has it
    return requantize(centred, quantize_multiplier(ratio), output, op, multiply)


@KERNELS.rule(ops.Requantize)
def _requantized(graph: IntegerGraph, node: Node, op: ops.Requantize, inputs: list[Array]) -> Array:
    """QUANTIZE between two integer types; unlike elsewhere, the ratio of scales is float64's."""
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    return requantize(centred, quantize_multiplier(scale_of(source) / scale_of(output)), output, None, multiply)


@KERNELS.rule(ops.Mul)
def _mul(graph: IntegerGraph, node: Node, op: ops.Mul, inputs: list[Array]) -> Array:
    one, other, output = (graph.quantizations[name] for name in (*node.inputs, node.name))
    total = (inputs[0].astype(np.int64) - int(one.zero_point)) * (inputs[-1].astype(np.int64) - int(other.zero_point))
    ratio = one.scale * other.scale / output.scale  # float32, as the kernel has it
    return requantize(total, quantize_multiplier(ratio), output, None, multiply)


@KERNELS.rule(ops.HardSigmoid)
def _hard_sigmoid(graph: IntegerGraph, node: Node, op: ops.HardSigmoid, inputs: list[Array]) -> Array:
    """The convolution that `HardSigmoidLayer` is. An int16 grid goes on below 0: there a ReLU ends it."""
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    layer = HardSigmoidLayer.reading(source)
    total = (inputs[0].astype(np.int64) - int(source.zero_point)) * layer.weight + layer.bias
    ratio = quantize_multiplier(np.asarray(scale_of(source) * float(layer.scale) / scale_of(output)))
    wide = source.dtype == "int16"
    return requantize(total, ratio, output, ops.RELU if wide else None, multiply_wide if wide else multiply)


@KERNELS.rule(ops.Maximum)
def _maximum(graph: IntegerGraph, node: Node, op: ops.Maximum, inputs: list[Array]) -> Array:
    return np.maximum(*inputs)


@KERNELS.rule(*TABLES.rules)
def _table(graph: IntegerGraph, node: Node, op: ops.Unary, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    if source.dtype == "int16":
        return WIDE.get(op, node.name)(op, inputs[0].astype(np.int64), source, output)
    table = answers(op, source, output)
    return np.asarray(table[inputs[0].astype(np.int64) + 128])


@KERNELS.rule(ops.LeakyReLU)
def _leaky_relu(graph: IntegerGraph, node: Node, op: ops.LeakyReLU, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    same = quantize_multiplier(source.scale / output.scale)  # float32 ratios, as the kernel has them
    bent = quantize_multiplier(source.scale * np.float32(abs(op.slope)) / output.scale)
    below = multiply(centred, bent)  # by the slope's size and then its sign: ties round as those of a positive slope
    result = np.where(centred >= 0, multiply(centred, same), -below if op.slope < 0 else below)
    return np.clip(result + int(output.zero_point), *output.limits)
