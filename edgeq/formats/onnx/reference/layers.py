"""Convolutions, linear layers and pools as ONNX Runtime's kernels compute them in integers."""

from __future__ import annotations

import numpy as np

from edgeq.formats.onnx.reference.rescale import limit, requantize
from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    AvgPool2d,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Sides,
)
from edgeq.integer.graph import IntegerGraph

__all__: list[str] = []


def _windows(x: Integers, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]) -> Integers:
    """Views ``(N, C, OH, OW, kh, kw)`` of an already padded ``(N, C, H, W)``."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))  # type: ignore[call-overload]
    return np.asarray(views)[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _surround(x: Integers, padding: Sides, fill: float) -> Integers:
    top, bottom, left, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


@KERNELS.rule(Conv2d)
def _conv(graph: IntegerGraph, node: Node, op: Conv2d, inputs: list[Integers], shift: int) -> Integers:
    x_grid, w_grid, y_grid = (graph.quantizations[name] for name in (*node.inputs[:2], node.name))
    weight = inputs[1].astype(np.float64)  # float64 holds every int32 sum exactly and multiplies matrices fast
    centred = _surround(inputs[0].astype(np.float64) - int(x_grid.zero_point), op.padding, 0)
    views = _windows(centred, weight.shape[2:], op.stride, op.dilation)
    n, _, oh, ow = views.shape[:4]
    filters = weight.reshape(op.groups, -1, *weight.shape[1:])
    total = np.zeros((n, op.groups, filters.shape[1], oh * ow))
    for row, column in np.ndindex(*weight.shape[2:]):  # tap by tap: no copy of every window at once
        taps = filters[..., row, column]
        seen = views[..., row, column].reshape(n, op.groups, -1, oh * ow)
        total += taps * seen if taps.shape[2] == 1 else taps @ seen
    total = total.reshape(n, -1, oh, ow)
    if len(inputs) > 2:
        total = total + inputs[2].reshape(1, -1, 1, 1)
    factor = (x_grid.scale * w_grid.scale / y_grid.scale).astype(np.float32).reshape(1, -1, 1, 1)
    return requantize(total, factor, y_grid, op.activation)


@KERNELS.rule(Linear)
def _linear(graph: IntegerGraph, node: Node, op: Linear, inputs: list[Integers], shift: int) -> Integers:
    x_grid, w_grid, y_grid = (graph.quantizations[name] for name in (*node.inputs[:2], node.name))
    total = (inputs[0].astype(np.float64) - int(x_grid.zero_point)) @ inputs[1].astype(np.float64).T
    if len(inputs) > 2:
        total = total + inputs[2]
    return requantize(total, (x_grid.scale * w_grid.scale / y_grid.scale).astype(np.float32), y_grid, op.activation)


@KERNELS.rule(GlobalAvgPool)
def _global_avg_pool(
    graph: IntegerGraph, node: Node, op: GlobalAvgPool, inputs: list[Integers], shift: int
) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    size = inputs[0].shape[2] * inputs[0].shape[3]
    total = (inputs[0].astype(np.int64) - int(x.zero_point)).sum(axis=(2, 3), keepdims=True)
    return requantize(total, x.scale / (y.scale * np.float32(size)), y, None)


@KERNELS.rule(AvgPool2d)
def _avg_pool(graph: IntegerGraph, node: Node, op: AvgPool2d, inputs: list[Integers], shift: int) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    real = _surround(x.dequantize(inputs[0]), op.padding, 0)
    weights = _surround(np.ones_like(inputs[0], np.float32), op.padding, float(op.count_padding))
    total, count = (np.zeros((), np.float32), np.zeros((), np.float32))
    views, ones = (_windows(array, op.kernel, op.stride, (1, 1)) for array in (real, weights))
    for row in range(op.kernel[0]):  # summed in this order, in float32
        for column in range(op.kernel[1]):
            total = total + views[..., row, column]
            count = count + ones[..., row, column]
    # Unlike QuantizeLinear this kernel adds the zero point before it rounds.
    return limit(np.rint(total / count / y.scale + np.float32(y.zero_point + shift)) - shift, y, None)


@KERNELS.rule(MaxPool2d)
def _max_pool(graph: IntegerGraph, node: Node, op: MaxPool2d, inputs: list[Integers], shift: int) -> Integers:
    padded = _surround(inputs[0], op.padding, -128)
    return np.asarray(_windows(padded, op.kernel, op.stride, (1, 1)).max(axis=(4, 5)))
