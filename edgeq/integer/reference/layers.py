"""Convolutions, linear layers and pools as LiteRT's reference kernels compute them.

Sums are taken in float matrix products that cannot round: all partial sums stay below the format's last exact integer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import Sides
from edgeq.integer.fixedpoint import Int, multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import LIMITS, IntegerGraph, Quantization
from edgeq.integer.reference.rescale import Scale, limits_within, requantize, scale_of
from edgeq.integer.reference.table import KERNELS, Array

__all__: list[str] = []


def _channel_ratios(graph: IntegerGraph, node: Node) -> npt.NDArray[np.float64]:
    """Input scale x weight scale / output scale, per output channel (or one for all)."""
    x, w, y = (graph.quantizations[name] for name in (node.inputs[0], node.inputs[1], node.name))
    return np.asarray(scale_of(x) * np.atleast_1d(w.scale).astype(np.float64) / scale_of(y))


def _sum_type(weight: Array, q: Quantization) -> type[np.floating[Any]]:
    """float32 if no sum of products with inputs on grid `q` can leave its exact integers, else float64."""
    rows = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    return np.float32 if int(rows.max(initial=0)) * (LIMITS[q.dtype][1] * 2 + 1) < 1 << 24 else np.float64


def _surround(x: Array, padding: Sides, value: int = 0) -> Array:
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


@KERNELS.rule(ops.Conv2d)
def _conv(graph: IntegerGraph, node: Node, op: ops.Conv2d, inputs: list[Array]) -> Array:
    weight = graph.constants[node.inputs[1]]
    source = graph.quantizations[node.inputs[0]]
    x = _surround(inputs[0].astype(np.int32) - int(source.zero_point), op.padding)
    shape = (len(x), *graph.shapes[node.name][1:])
    if op.depthwise(weight.shape):
        acc = _depthwise(x, weight, op, shape)
    else:
        acc = _dense(x, weight, op, shape, _sum_type(weight, source))
    if len(node.inputs) == 3:
        acc += graph.constants[node.inputs[2]].reshape(1, -1, 1, 1)
    multiplier = quantize_multiplier(_channel_ratios(graph, node).reshape(1, -1, 1, 1))
    return requantize(acc, multiplier, graph.quantizations[node.name], op.activation, _of_sums(source))


def _of_sums(source: Quantization) -> Scale:
    """How sums of products with values on this grid are rescaled."""
    return multiply_wide if source.dtype == "int16" else multiply


def _taps(x: Array, op: ops.Conv2d, ky: int, kx: int, out: tuple[int, ...]) -> Array:
    """The pixels under one tap of the kernel, for every window."""
    y, xx = ky * op.dilation[0], kx * op.dilation[1]
    (sy, sx), (oh, ow) = op.stride, out[2:]
    return x[:, :, y : y + sy * (oh - 1) + 1 : sy, xx : xx + sx * (ow - 1) + 1 : sx]


def _depthwise(x: Array, weight: Array, op: ops.Conv2d, out: tuple[int, ...]) -> Int:
    acc = np.zeros(out, np.int32)
    x = np.repeat(x, weight.shape[0] // op.groups, axis=1) if weight.shape[0] != op.groups else x
    for ky in range(weight.shape[2]):
        for kx in range(weight.shape[3]):
            acc += _taps(x, op, ky, kx, out) * weight[:, 0, ky, kx].astype(np.int32).reshape(1, -1, 1, 1)
    return acc.astype(np.int64)


def _dense(x: Array, weight: Array, op: ops.Conv2d, out: tuple[int, ...], kind: type[np.floating[Any]]) -> Int:
    n, o, oh, ow = out
    per_group, (kh, kw) = weight.shape[1], weight.shape[2:]
    real = x.astype(kind)
    acc = np.empty((n, o, oh * ow), np.int64)
    rows = o // op.groups
    columns = np.empty((per_group, kh * kw, oh * ow), kind)
    for image in range(n):
        for group in range(op.groups):
            part = real[image : image + 1, group * per_group : (group + 1) * per_group]
            for tap in range(kh * kw):
                columns[:, tap] = _taps(part, op, tap // kw, tap % kw, out).reshape(per_group, -1)
            chosen = slice(group * rows, (group + 1) * rows)
            acc[image, chosen] = weight[chosen].reshape(rows, -1).astype(kind) @ columns.reshape(
                per_group * kh * kw, -1
            )
    return acc.reshape(out)


@KERNELS.rule(ops.Linear)
def _linear(graph: IntegerGraph, node: Node, op: ops.Linear, inputs: list[Array]) -> Array:
    """Unlike every other kernel, FULLY_CONNECTED scales in float64 and rounds once, halves away from zero."""
    weight, source = graph.constants[node.inputs[1]], graph.quantizations[node.inputs[0]]
    kind = _sum_type(weight, source)
    x = inputs[0].astype(kind) - kind(source.zero_point)
    acc = (x @ weight.astype(kind).T).astype(np.int64)
    if len(node.inputs) == 3:
        acc += graph.constants[node.inputs[2]]
    q = graph.quantizations[node.name]
    scaled = acc * _channel_ratios(graph, node)
    nearest: Array = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + int(q.zero_point)
    return np.clip(nearest, *limits_within(q, op.activation))


@KERNELS.rule(ops.GlobalAvgPool)
def _mean(graph: IntegerGraph, node: Node, op: ops.GlobalAvgPool, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    count = inputs[0].shape[2] * inputs[0].shape[3]
    total = inputs[0].astype(np.int64).sum(axis=(2, 3), keepdims=True) - count * int(source.zero_point)
    fraction, exponent = quantize_multiplier(scale_of(source) / scale_of(output))
    # The division by the count is folded into the fraction, at as many bits as still fit.
    bits = min(count.bit_length() - 1, 32, 31 + int(exponent))
    folded = np.asarray((int(fraction) << bits) // count, np.int64), np.asarray(int(exponent) - bits, np.int64)
    return requantize(total, folded, output, None, multiply)


@KERNELS.rule(ops.MaxPool2d)
def _max_pool(graph: IntegerGraph, node: Node, op: ops.MaxPool2d, inputs: list[Array]) -> Array:
    x = _surround(inputs[0], op.padding, value=graph.quantizations[node.name].limits[0])
    return np.asarray(_windows(x, op).max(axis=(4, 5)))


def _windows(x: Array, op: ops.MaxPool2d | ops.AvgPool2d) -> Array:
    """Every window of every channel: ``(N, C, OH, OW, kh, kw)``, a view."""
    view: Array = sliding_window_view(x, op.kernel, (2, 3))  # type: ignore[call-overload]
    return view[:, :, :: op.stride[0], :: op.stride[1]]


@KERNELS.rule(ops.AvgPool2d)
def _avg_pool(graph: IntegerGraph, node: Node, op: ops.AvgPool2d, inputs: list[Array]) -> Array:
    """Sums of raw integers over real pixels, divided, halves away from zero; padding that counts is the zero point."""
    zero = int(graph.quantizations[node.inputs[0]].zero_point) if op.count_padding else 0
    total = _windows(_surround(inputs[0].astype(np.int64), op.padding, value=zero), op).sum(axis=(4, 5))
    ones = np.ones((1, 1, *inputs[0].shape[2:]), np.int64)
    count = _windows(_surround(ones, op.padding, value=int(op.count_padding)), op).sum(axis=(4, 5))
    return np.asarray(np.sign(total) * ((np.abs(total) + count // 2) // count))
