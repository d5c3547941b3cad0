"""The integers ONNX Runtime's CPU kernels compute: the second, named rounding mode beside the exact reference.

Sums are the same integers everywhere. What differs is how a sum becomes an 8-bit output: TFLite multiplies by a 31-bit
fixed-point number, ONNX Runtime (MLAS) converts the sum to float32, multiplies by a float32 factor and rounds half to
even. Near a tie the two may differ by one step; these functions say on which side ONNX Runtime falls.

Everything here is in signed integers; uint8 files hold the same numbers shifted by 128.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.reference.elementwise import add, hard_sigmoid, multiply, sigmoid
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    GELU,
    TABULATED,
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    HardSigmoid,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    MeanSquare,
    Mul,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Rsqrt,
    Sides,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
    Unary,
)
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.reference.elementwise import answers
from edgeq.integer.reference.norms import eps_steps, rsqrt_table
from edgeq.integer.reference.resize import resize

__all__ = ["evaluate", "run_ort_rounding"]

Integers = npt.NDArray[Any]
_AnyOp = TypeVar("_AnyOp", bound=Op)
_KERNELS: dict[type[Op], Callable[[IntegerGraph, Node, Any, list[Integers], int], Integers]] = {}


def run_ort_rounding(graph: IntegerGraph, inputs: Integers, activations: str) -> dict[str, Integers]:
    """Every activation of `graph` for int8 `inputs` ``(N, C, H, W)``, as ONNX Runtime would compute them in a row.

    `activations` is the file's type, "int8" or "uint8": where a kernel adds the zero point in float, it matters.
    """
    values: dict[str, Integers] = {graph.inputs[0]: inputs}
    for node in graph.nodes:
        values[node.name] = evaluate(graph, node, values, activations)
    return values


def evaluate(graph: IntegerGraph, node: Node, values: Mapping[str, Integers], activations: str) -> Integers:
    """Output of one node, int8, from the `values` of its inputs. Raises `UnsupportedError` for an unknown op kind."""
    kernel = _KERNELS.get(type(node.op))
    if kernel is None:
        raise UnsupportedError(f"{type(node.op).__name__} has no ONNX Runtime arithmetic here", where=node.name)
    inputs = [graph.constants[name] if name in graph.constants else values[name] for name in node.inputs]
    return kernel(graph, node, node.op, inputs, 128 if activations == "uint8" else 0)


def _kernel(
    kind: type[_AnyOp],
) -> Callable[
    [Callable[[IntegerGraph, Node, _AnyOp, list[Integers], int], Integers]],
    Callable[[IntegerGraph, Node, _AnyOp, list[Integers], int], Integers],
]:
    def register(
        kernel: Callable[[IntegerGraph, Node, _AnyOp, list[Integers], int], Integers],
    ) -> Callable[[IntegerGraph, Node, _AnyOp, list[Integers], int], Integers]:
        _KERNELS[kind] = kernel
        return kernel

    return register


def _requantize(total: Integers, factor: npt.NDArray[np.float32], q: Quantization, clamp: Clamp | None) -> Integers:
    """MLAS's requantization: float32 product, half to even, zero point added to the integer."""
    scaled = np.rint(total.astype(np.float32) * factor)
    return _limit(scaled.astype(np.float64) + int(q.zero_point), q, clamp)


def _limit(integers: npt.NDArray[Any], q: Quantization, clamp: Clamp | None) -> Integers:
    low, high = q.limits
    if clamp is not None and np.isfinite(clamp.minimum):
        low = int(q.quantize(np.float32(clamp.minimum)))  # type: ignore[arg-type]
    if clamp is not None and np.isfinite(clamp.maximum):
        high = int(q.quantize(np.float32(clamp.maximum)))  # type: ignore[arg-type]
    return np.clip(integers, low, high).astype(np.int8)


def _nearest(real: npt.NDArray[np.float32], q: Quantization, clamp: Clamp | None = None) -> Integers:
    """QuantizeLinear: divide, half to even, saturate."""
    return _limit(np.rint(real / q.scale).astype(np.float64) + int(q.zero_point), q, clamp)


def _windows(x: Integers, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]) -> Integers:
    """Views ``(N, C, OH, OW, kh, kw)`` of an already padded ``(N, C, H, W)``."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))  # type: ignore[call-overload]
    return np.asarray(views)[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _surround(x: Integers, padding: Sides, fill: float) -> Integers:
    top, bottom, left, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


@_kernel(Conv2d)
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
    return _requantize(total, factor, y_grid, op.activation)


@_kernel(Linear)
def _linear(graph: IntegerGraph, node: Node, op: Linear, inputs: list[Integers], shift: int) -> Integers:
    x_grid, w_grid, y_grid = (graph.quantizations[name] for name in (*node.inputs[:2], node.name))
    total = (inputs[0].astype(np.float64) - int(x_grid.zero_point)) @ inputs[1].astype(np.float64).T
    if len(inputs) > 2:
        total = total + inputs[2]
    return _requantize(total, (x_grid.scale * w_grid.scale / y_grid.scale).astype(np.float32), y_grid, op.activation)


@_kernel(Add)
def _add(graph: IntegerGraph, node: Node, op: Add, inputs: list[Integers], shift: int) -> Integers:
    one, other, y = (graph.quantizations[name] for name in (*node.inputs, node.name))
    return _limit(add(inputs[0], inputs[1], one, other, y, shift), y, op.activation)


@_kernel(Mul)
def _mul(graph: IntegerGraph, node: Node, op: Mul, inputs: list[Integers], shift: int) -> Integers:
    one, other, y = (graph.quantizations[name] for name in (*node.inputs, node.name))
    return multiply(inputs[0], inputs[1], one, other, y, shift)


@_kernel(Sigmoid)
def _sigmoid(graph: IntegerGraph, node: Node, op: Sigmoid, inputs: list[Integers], shift: int) -> Integers:
    return sigmoid(inputs[0], graph.quantizations[node.inputs[0]])


@_kernel(Tanh)
def _tanh(graph: IntegerGraph, node: Node, op: Tanh, inputs: list[Integers], shift: int) -> Integers:
    x = graph.quantizations[node.inputs[0]]
    return sigmoid(inputs[0], Quantization(np.float32(2) * x.scale, x.zero_point))


@_kernel(HardSigmoid)
def _hard_sigmoid(graph: IntegerGraph, node: Node, op: HardSigmoid, inputs: list[Integers], shift: int) -> Integers:
    return hard_sigmoid(inputs[0], graph.quantizations[node.inputs[0]], shift)


@_kernel(GELU)
def _look_up(graph: IntegerGraph, node: Node, op: Unary, inputs: list[Integers], shift: int) -> Integers:
    """A table, which is exact."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    return np.asarray(answers(op, x, y)[inputs[0].astype(np.int64) + 128])


_KERNELS.update(dict.fromkeys(TABULATED, _look_up))


@_kernel(MeanSquare)
def _mean_square(graph: IntegerGraph, node: Node, op: MeanSquare, inputs: list[Integers], shift: int) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    centred = inputs[0].astype(np.int64) - int(x.zero_point)
    total = (centred * centred).sum(axis=1, keepdims=True)
    factor = x.scale * (x.scale / np.float32(inputs[0].shape[1])) / y.scale
    return _limit(np.rint(total.astype(np.float32) * factor) + int(y.zero_point) + eps_steps(op, y), y, None)


@_kernel(Rsqrt)
def _rsqrt(graph: IntegerGraph, node: Node, op: Rsqrt, inputs: list[Integers], shift: int) -> Integers:
    """A table, which is exact."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    return np.asarray(rsqrt_table(x, y)[inputs[0].astype(np.int64) + 128])


@_kernel(GlobalAvgPool)
def _global_avg_pool(
    graph: IntegerGraph, node: Node, op: GlobalAvgPool, inputs: list[Integers], shift: int
) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    size = inputs[0].shape[2] * inputs[0].shape[3]
    total = (inputs[0].astype(np.int64) - int(x.zero_point)).sum(axis=(2, 3), keepdims=True)
    return _requantize(total, x.scale / (y.scale * np.float32(size)), y, None)


@_kernel(AvgPool2d)
def _avg_pool(graph: IntegerGraph, node: Node, op: AvgPool2d, inputs: list[Integers], shift: int) -> Integers:
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    real = _surround(x.dequantize(inputs[0]), op.padding, 0)
    there = _surround(np.ones_like(inputs[0], np.float32), op.padding, float(op.count_padding))
    total, count = (np.zeros((), np.float32), np.zeros((), np.float32))
    views, ones = (_windows(array, op.kernel, op.stride, (1, 1)) for array in (real, there))
    for row in range(op.kernel[0]):  # summed in this order, in float32
        for column in range(op.kernel[1]):
            total = total + views[..., row, column]
            count = count + ones[..., row, column]
    # Unlike QuantizeLinear this kernel adds the zero point before it rounds.
    return _limit(np.rint(total / count / y.scale + np.float32(y.zero_point + shift)) - shift, y, None)


@_kernel(LeakyReLU)
def _leaky_relu(graph: IntegerGraph, node: Node, op: LeakyReLU, inputs: list[Integers], shift: int) -> Integers:
    real = graph.quantizations[node.inputs[0]].dequantize(inputs[0])
    return _nearest(np.where(real >= 0, real, real * np.float32(op.slope)), graph.quantizations[node.name])


@_kernel(Clamp)
def _clamp(graph: IntegerGraph, node: Node, op: Clamp, inputs: list[Integers], shift: int) -> Integers:
    return _nearest(graph.quantizations[node.inputs[0]].dequantize(inputs[0]), graph.quantizations[node.name], op)


@_kernel(Softmax)
def _softmax(graph: IntegerGraph, node: Node, op: Softmax, inputs: list[Integers], shift: int) -> Integers:
    """A table of exponentials in 23-bit integers, and an integer division that rounds."""
    x, y = (graph.quantizations[name] for name in (node.inputs[0], node.name))
    unit = min((2**32 - 1) / inputs[0].shape[op.axis], float(0x7FFFFF))
    distance = inputs[0].astype(np.int64) - inputs[0].max(axis=op.axis, keepdims=True)
    table = np.rint(unit * np.exp(distance * np.float64(x.scale))).astype(np.int64)
    total = table.sum(axis=op.axis, keepdims=True)
    steps = int(np.rint(1 / np.float64(y.scale)))
    return _limit((table * steps + total // 2) // total + int(y.zero_point), y, None)


@_kernel(MaxPool2d)
def _max_pool(graph: IntegerGraph, node: Node, op: MaxPool2d, inputs: list[Integers], shift: int) -> Integers:
    padded = _surround(inputs[0], op.padding, -128)
    return np.asarray(_windows(padded, op.kernel, op.stride, (1, 1)).max(axis=(4, 5)))


@_kernel(Maximum)
def _maximum(graph: IntegerGraph, node: Node, op: Maximum, inputs: list[Integers], shift: int) -> Integers:
    return np.maximum(*inputs)


@_kernel(Concat)
def _concat(graph: IntegerGraph, node: Node, op: Concat, inputs: list[Integers], shift: int) -> Integers:
    return np.concatenate(inputs, axis=op.axis)


@_kernel(Pad)
def _pad(graph: IntegerGraph, node: Node, op: Pad, inputs: list[Integers], shift: int) -> Integers:
    zero = int(graph.quantizations[node.name].zero_point)
    return np.pad(inputs[0], list(zip(op.before, op.after, strict=True)), constant_values=zero)


@_kernel(Slice)
def _slice(graph: IntegerGraph, node: Node, op: Slice, inputs: list[Integers], shift: int) -> Integers:
    cuts = [slice(*numbers) for numbers in zip(op.start, op.stop, op.step, strict=True)]
    return inputs[0][(slice(None), *cuts[1:])]


@_kernel(Permute)
def _permute(graph: IntegerGraph, node: Node, op: Permute, inputs: list[Integers], shift: int) -> Integers:
    return inputs[0].transpose(op.order)


@_kernel(Resize2d)
def _resize(graph: IntegerGraph, node: Node, op: Resize2d, inputs: list[Integers], shift: int) -> Integers:
    """Weighted in float32, fractions cut off. Exact where positions are (twice the size); else a tie may fall apart."""
    if op.mode != "bilinear":
        return resize(inputs[0], op)
    (y1, y2, fy), (x1, x2, fx) = (
        _between(size, out, op.align_corners) for size, out in zip(inputs[0].shape[2:], op.size, strict=True)
    )
    x = inputs[0].astype(np.float32) + np.float32(shift)
    gy, gx = (np.float32(1) - fy)[:, None], np.float32(1) - fx
    fy = fy[:, None]
    top, bottom = x[:, :, y1], x[:, :, y2]
    total = gx * gy * top[..., x1] + fx * gy * top[..., x2] + gx * fy * bottom[..., x1] + fx * fy * bottom[..., x2]
    return np.asarray(np.trunc(total) - shift)


def _between(size: int, out: int, align_corners: bool) -> tuple[Integers, Integers, npt.NDArray[np.float32]]:
    positions = np.arange(out, dtype=np.float32)
    if align_corners:
        positions = positions * np.float32(size - 1) / np.float32(out - 1) if out > 1 else positions * 0
    else:
        positions = (positions + np.float32(0.5)) / np.float32(out / size) - np.float32(0.5)
    positions = np.clip(positions.astype(np.float32), np.float32(0), np.float32(size - 1))
    low = np.minimum(positions.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    return low, high, (positions - low).astype(np.float32)


@_kernel(Reshape)
def _reshape(graph: IntegerGraph, node: Node, op: Reshape, inputs: list[Integers], shift: int) -> Integers:
    return inputs[0].reshape(len(inputs[0]), *op.shape)
