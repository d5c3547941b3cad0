"""What integer kernels take and compute without overflow: ratios of scales, and the size of sums of products.

All limits were found with files of one op and scale ratios from 2^-45 to 2^30, run by LiteRT 2.3.0 (XNNPACK, builtin
and reference kernels), tflite-runtime 2.14 and onnxruntime 1.31. Small ratios are taken everywhere: below 2^-32 a
fixed-point multiplier is 0, and so is what it scales. Large ones are refused, overflow without a word, or abort the
process. Only values that are all but constant on the calibration images come near these limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import TargetLimitError
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    Add,
    Clamp,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    MatMul,
    MeanSquare,
    Mul,
    Op,
    OpTable,
    Requantize,
    Rsqrt,
    Shape,
    Softmax,
)
from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = [
    "FINEST_INPUT",
    "LARGEST_RATIO",
    "LARGEST_SUM",
    "SMALLEST_MEAN",
    "SMALLEST_RATIO",
    "check_kernels",
    "largest_sums",
    "scale_ratio",
]

Doubles = npt.NDArray[np.float64]

SMALLEST_RATIO = 2.0**-31
"""Input x weight / output scale below which a fixed-point multiplier is 0."""

SMALLEST_ROOT: OpTable[float] = OpTable("takes no root", {Rsqrt: 2.0**-12})
"""1 / (root of the input scale x output scale) below which the int8 kernel of an inverse square root shifts too far."""

_LIMITED = {
    "int8": {
        Conv2d: 2.0**8,  # XNNPACK creates no runtime
        Linear: 2.0**8,
        Add: 2.0**7,  # LiteRT's builtin kernel overflows; beyond 2^19 all abort the process
        Mul: 2.0,  # LiteRT's builtin kernel overflows at 4
        MatMul: 2.0,  # as sums of squares, which the same kernel computes
        MeanSquare: 2.0,  # overflows at 2^16, less for many channels
        GlobalAvgPool: 2.0**8,  # onnxruntime refuses the file
        Clamp: 2.0**8,  # these three overflow beyond 2^20, but leave XNNPACK at 2^7
        LeakyReLU: 2.0**8,
        Requantize: 2.0**8,
    },
    "int16": {
        Conv2d: 2.0**14,  # the shift that rescales a sum ends at 15 bits
        Linear: 2.0**14,
        Add: 2.0**13,  # 15 bits of headroom, and no multiplier of 1
        Mul: 1.0,  # its 30 bits leave no room for a shift to the left
        MatMul: 2.0,
        GlobalAvgPool: 2.0**14,
        Clamp: 2.0**14,
        LeakyReLU: 2.0**14,
        Requantize: 2.0**14,
    },
}
LARGEST_RATIO: Mapping[str, OpTable[float]] = {
    dtype: OpTable(f"takes any ratio of scales in {dtype}", limits) for dtype, limits in _LIMITED.items()
}
"""The first `scale_ratio` that some kernel refuses or gets wrong, by the type of the output and the kind of op."""

LARGEST_SUM = {"int8": 2.0**31, "int16": 2.0**47}
"""What sums of products and a bias must stay below, by the type of activations."""

SMALLEST_MEAN = 2.0**-32
"""Input / (count x output) scale below which onnxruntime refuses a mean over count pixels."""

FINEST_LOGITS = 2.0**-25
"""Input scale, times beta, of a softmax below which LiteRT's reference kernel aborts the process."""


def scale_ratio(op: Op, inputs: Sequence[float], output: float, channels: int = 1) -> float:
    """How much finer the output's grid is than what the kernel adds up: a product of scales for products, the largest
    scale for all others. `channels` are those that a mean of squares is taken over."""
    return _RATIOS.get(op)(op, inputs, output, channels)


_RATIOS: OpTable[Callable[[Any, Sequence[float], float, int], float]] = OpTable("rescales nothing")


@_RATIOS.rule(Op)
def _of_values(op: Op, inputs: Sequence[float], output: float, channels: int) -> float:
    return max(inputs) / output


@_RATIOS.rule(Conv2d, Linear, MatMul, Mul)
def _of_products(op: Op, inputs: Sequence[float], output: float, channels: int) -> float:
    return inputs[0] * inputs[1] / output


@_RATIOS.rule(MeanSquare)
def _of_squares(op: MeanSquare, inputs: Sequence[float], output: float, channels: int) -> float:
    return inputs[0] ** 2 / (channels * output)


@_RATIOS.rule(LeakyReLU)
def _of_slopes(op: LeakyReLU, inputs: Sequence[float], output: float, channels: int) -> float:
    return max(inputs) * max(1.0, abs(op.slope)) / output


FINEST_INPUT: OpTable[Callable[[Any, Shape, float], float]] = OpTable(
    "takes any input scale",
    {
        GlobalAvgPool: lambda op, shape, output: SMALLEST_MEAN * shape[2] * shape[3] * output,
        Softmax: lambda op, shape, output: FINEST_LOGITS / op.beta,
    },
)
"""From an int8 op, the shape of its input and the scale of its output to the input scale below which a kernel fails."""


def largest_sums(weight: npt.NDArray[Any], bias: npt.NDArray[Any], source: Quantization) -> Doubles:
    """The largest absolute sum of products and bias that inputs on grid `source` can make of integer weights, for each
    output channel ``(C_out,)``."""
    rows = weight.reshape(len(weight), -1)
    above = np.maximum(rows, 0).sum(1, dtype=np.int64).astype(np.float64)
    below = np.minimum(rows, 0).sum(1, dtype=np.int64).astype(np.float64)
    low, high = (float(end) - float(source.zero_point) for end in source.limits)
    most, least = above * high + below * low + bias, above * low + below * high + bias
    return np.asarray(np.maximum(np.abs(most), np.abs(least)))


def check_kernels(graph: IntegerGraph) -> None:
    """Raises `UnsupportedError` naming the first op of `graph` that some runtime's kernel refuses or overflows on."""
    for node in graph.nodes:
        dtype = graph.quantizations[node.name].dtype
        smallest = SMALLEST_ROOT.find(type(node.op))
        if smallest is not None and dtype == "int8":
            _check_root(graph, node, smallest)
        limit = LARGEST_RATIO[dtype].find(type(node.op))
        if limit is None:
            continue
        ratio = _ratio(graph, node)
        if ratio >= limit:
            raise TargetLimitError(
                f"{type(node.op).__name__} onto a {dtype[3:]}-bit grid {ratio:.3g} times finer than its inputs'",
                where=node.name,
                why=f"kernels take less than {limit:g}",
                hint="its output is almost constant on the calibration images: use others",
            )
        if node.op.is_layer:
            _check_sums(graph, node)


def _ratio(graph: IntegerGraph, node: Node) -> float:
    scales = [float(np.max(graph.quantizations[name].scale)) for name in node.inputs[:2]]
    output = float(graph.quantizations[node.name].scale)
    return scale_ratio(node.op, scales, output, graph.shapes[node.inputs[0]][1])


def _check_root(graph: IntegerGraph, node: Node, smallest: float) -> None:
    """int8 kernels of an inverse square root shift by 20 bits more than the ratio of scales says, and int32 by 31 at
    most."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    if 1 / (math.sqrt(float(x.scale)) * float(y.scale)) < smallest:
        raise TargetLimitError(
            f"{type(node.op).__name__} of values in steps of {float(x.scale):.3g}",
            where=node.name,
            why="kernels have no shift for what comes out",
            hint="normalise the values before: they are far beyond those of a trained network",
        )


def _check_sums(graph: IntegerGraph, node: Node) -> None:
    """int8 kernels shift sums to the left before they scale them, where the ratio is above 1, and so overflow earlier;
    int16 kernels scale sums of 47 bits into 32."""
    x, w, y = (graph.quantizations[name] for name in (node.inputs[0], node.inputs[1], node.name))
    weight = graph.constants[node.inputs[1]]
    bias = graph.constants[node.inputs[2]] if len(node.inputs) == 3 else np.zeros(len(weight))
    sums, limit = largest_sums(weight, bias, x), LARGEST_SUM[x.dtype]
    ratio = float(x.scale) * np.atleast_1d(w.scale).astype(np.float64) / float(y.scale)
    if x.dtype == "int8":
        sums = sums * 2.0 ** np.maximum(np.frexp(ratio)[1], 0)
    elif np.all(sums < limit):
        sums, limit = sums * ratio, LARGEST_SUM["int8"]
    if np.any(sums >= limit):
        raise TargetLimitError(
            f"sums of {type(node.op).__name__} may reach {float(sums.max()):.3g}",
            where=node.name,
            why=f"kernels have room for {limit:.3g}",
            hint="its weights or its bias are too large for the values it makes of them",
        )
