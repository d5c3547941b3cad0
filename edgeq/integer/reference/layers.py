"""The exact reference: an integer graph computed value for value as LiteRT's ``BUILTIN_REF`` kernels do.

Logical NCHW, any batch. Sums are taken in float matrix products that cannot round (all partial sums stay below the
format's last exact integer), everything after them in int64. Where a kernel forms a ratio of scales in float32 before
widening it, so does this; each such place says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import Clamp, Op, Sides, elementwise, norms
from edgeq.integer.fixedpoint import Int, Multiplier, multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import LIMITS, IntegerGraph, Quantization
from edgeq.integer.reference.elementwise import TABLES, answers, hard_sigmoid, product
from edgeq.integer.reference.norms import mean_square, rsqrt
from edgeq.integer.reference.resize import resize
from edgeq.integer.reference.softmax import softmax
from edgeq.integer.reference.wide import WIDE, wide_softmax

__all__ = ["run"]

Array = npt.NDArray[Any]
_Kernel = Callable[[IntegerGraph, Node, Any, list[Array]], Array]
_KERNELS: dict[type[Op], _Kernel] = {}
_K = TypeVar("_K", bound=_Kernel)
_Scale = Callable[[Int, Multiplier], Int]

ADD_HEADROOM = {"int8": 20, "int16": 15}
"""Bits by which ADD shifts its inputs left before scaling them."""


def run(graph: IntegerGraph, inputs: Array) -> dict[str, Array]:
    """Every node's output by name, int8 (or int16), for integer inputs ``(N, ...)`` of the graph's one input.

    A value saturates at the limits of its own quantization: at -8 and 7 where that has 4 bits, as no runtime does.
    Raises `ConfigError` for inputs of another shape, `UnsupportedError` for an op without a reference.
    """
    if len(graph.inputs) != 1:
        raise UnsupportedError(f"the reference runs graphs with one input, not {len(graph.inputs)}", where=graph.name)
    (entry,) = graph.inputs
    inputs = np.asarray(inputs)
    shape = graph.input_shapes[entry][1:]
    if inputs.shape[1:] != shape or inputs.dtype.kind not in "iu":
        hint = f"expected integers (N, {', '.join(map(str, shape))})"
        raise ConfigError(f"input is {inputs.dtype} {list(inputs.shape)}", where=graph.name, hint=hint)
    values: dict[str, Array] = {entry: inputs}
    for node in graph.nodes:
        kernel = _KERNELS.get(type(node.op))
        if kernel is None:
            raise UnsupportedError(f"{type(node.op).__name__} has no integer reference", where=node.name)
        made = kernel(graph, node, node.op, [values[name] for name in graph.activations(node)])
        values[node.name] = made.astype(graph.quantizations[node.name].dtype)
    del values[entry]
    return values


def _computes(kind: type[Op]) -> Callable[[_K], _K]:
    def add(kernel: _K) -> _K:
        _KERNELS[kind] = kernel
        return kernel

    return add


def _limits(q: Quantization, clamp: Clamp | None) -> tuple[int, int]:
    """The integer range a fused activation leaves. Bounds are divided and rounded in float32."""
    low, high = q.limits
    if clamp is not None and math.isfinite(clamp.minimum):
        low = max(low, int(q.zero_point) + _round(np.float32(clamp.minimum) / q.scale))
    if clamp is not None and math.isfinite(clamp.maximum):
        high = min(high, int(q.zero_point) + _round(np.float32(clamp.maximum) / q.scale))
    return low, high


def _round(x: np.floating[Any] | npt.NDArray[np.float32]) -> int:
    """Nearest integer, halves away from zero."""
    value = float(x)
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _scale(q: Quantization) -> float:
    return float(q.scale)


def _requantize(acc: Array, multiplier: Multiplier, q: Quantization, clamp: Clamp | None, scale: _Scale) -> Array:
    result = scale(acc.astype(np.int64, copy=False), multiplier)
    result += int(q.zero_point)
    return np.clip(result, *_limits(q, clamp), out=result)


def _channel_ratios(graph: IntegerGraph, node: Node) -> npt.NDArray[np.float64]:
    """Input scale x weight scale / output scale, per output channel (or one for all)."""
    x, w, y = (graph.quantizations[name] for name in (node.inputs[0], node.inputs[1], node.name))
    return np.asarray(_scale(x) * np.atleast_1d(w.scale).astype(np.float64) / _scale(y))


def _sum_type(weight: Array, q: Quantization) -> type[np.floating[Any]]:
    """float32 if no sum of products with inputs on grid `q` can leave its exact integers, else float64."""
    rows = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    return np.float32 if int(rows.max(initial=0)) * (LIMITS[q.dtype][1] * 2 + 1) < 1 << 24 else np.float64


def _surround(x: Array, padding: Sides, value: int = 0) -> Array:
    top, bottom, left, right = padding
    if not any(padding):
        return x
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


@_computes(ops.Conv2d)
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
    return _requantize(acc, multiplier, graph.quantizations[node.name], op.activation, _of_sums(source))


def _of_sums(source: Quantization) -> _Scale:
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


@_computes(ops.Linear)
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
    return np.clip(nearest, *_limits(q, op.activation))


@_computes(ops.Add)
def _add(graph: IntegerGraph, node: Node, op: ops.Add, inputs: list[Array]) -> Array:
    output = graph.quantizations[node.name]
    sources = [graph.quantizations[name] for name in node.inputs]
    twice_largest = 2 * max(_scale(q) for q in sources)
    total, headroom = np.zeros((), np.int64), ADD_HEADROOM[output.dtype]
    for x, q in zip(inputs if len(inputs) == 2 else inputs * 2, sources, strict=True):
        shifted = (x.astype(np.int64) - int(q.zero_point)) << headroom
        total = total + multiply(shifted, quantize_multiplier(_scale(q) / twice_largest))
    back = quantize_multiplier(twice_largest / ((1 << headroom) * _scale(output)))
    return _requantize(total, back, output, op.activation, multiply)


@_computes(Clamp)
def _clamp(graph: IntegerGraph, node: Node, op: Clamp, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    ratio = source.scale / output.scale  # float32, as the kernel has it
    return _requantize(centred, quantize_multiplier(ratio), output, op, multiply)


@_computes(elementwise.Requantize)
def _requantized(graph: IntegerGraph, node: Node, op: elementwise.Requantize, inputs: list[Array]) -> Array:
    """QUANTIZE between two integer types; unlike elsewhere, the ratio of scales is float64's."""
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    return _requantize(centred, quantize_multiplier(_scale(source) / _scale(output)), output, None, multiply)


@_computes(elementwise.Mul)
def _mul(graph: IntegerGraph, node: Node, op: elementwise.Mul, inputs: list[Array]) -> Array:
    one, other, output = (graph.quantizations[name] for name in (*node.inputs, node.name))
    return product(inputs[0], inputs[-1], one, other, output)


@_computes(elementwise.HardSigmoid)
def _hard_sigmoid(graph: IntegerGraph, node: Node, op: elementwise.HardSigmoid, inputs: list[Array]) -> Array:
    return hard_sigmoid(inputs[0], graph.quantizations[node.inputs[0]], graph.quantizations[node.name])


@_computes(elementwise.Maximum)
def _maximum(graph: IntegerGraph, node: Node, op: elementwise.Maximum, inputs: list[Array]) -> Array:
    return np.maximum(*inputs)


def _table(graph: IntegerGraph, node: Node, op: elementwise.Unary, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    if source.dtype == "int16":
        if type(op) not in WIDE:
            raise UnsupportedError(f"{type(op).__name__} of int16 has no reference", where=node.name)
        return WIDE[type(op)](op, inputs[0].astype(np.int64), source, output)
    found = answers(op, source, output)
    return np.asarray(found[inputs[0].astype(np.int64) + 128])


_KERNELS.update(dict.fromkeys(TABLES, _table))


@_computes(norms.MeanSquare)
def _mean_square(graph: IntegerGraph, node: Node, op: norms.MeanSquare, inputs: list[Array]) -> Array:
    return mean_square(op, inputs[0], graph.quantizations[node.inputs[0]], graph.quantizations[node.name])


@_computes(norms.Rsqrt)
def _rsqrt(graph: IntegerGraph, node: Node, op: norms.Rsqrt, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    if source.dtype == "int16":
        return WIDE[type(op)](op, inputs[0].astype(np.int64), source, output)
    return rsqrt(inputs[0], source, output)


@_computes(ops.LeakyReLU)
def _leaky_relu(graph: IntegerGraph, node: Node, op: ops.LeakyReLU, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    centred = inputs[0].astype(np.int64) - int(source.zero_point)
    same = quantize_multiplier(source.scale / output.scale)  # float32 ratios, as the kernel has them
    bent = quantize_multiplier(source.scale * np.float32(abs(op.slope)) / output.scale)
    below = multiply(centred, bent)  # by the slope's size and then its sign: ties round as those of a positive slope
    result = np.where(centred >= 0, multiply(centred, same), -below if op.slope < 0 else below)
    return np.clip(result + int(output.zero_point), *output.limits)


@_computes(ops.GlobalAvgPool)
def _mean(graph: IntegerGraph, node: Node, op: ops.GlobalAvgPool, inputs: list[Array]) -> Array:
    source, output = graph.quantizations[node.inputs[0]], graph.quantizations[node.name]
    count = inputs[0].shape[2] * inputs[0].shape[3]
    total = inputs[0].astype(np.int64).sum(axis=(2, 3), keepdims=True) - count * int(source.zero_point)
    fraction, exponent = quantize_multiplier(_scale(source) / _scale(output))
    # The division by the count is folded into the fraction, at as many bits as still fit.
    bits = min(count.bit_length() - 1, 32, 31 + int(exponent))
    folded = np.asarray((int(fraction) << bits) // count, np.int64), np.asarray(int(exponent) - bits, np.int64)
    return _requantize(total, folded, output, None, multiply)


@_computes(ops.MaxPool2d)
def _max_pool(graph: IntegerGraph, node: Node, op: ops.MaxPool2d, inputs: list[Array]) -> Array:
    x = _surround(inputs[0], op.padding, value=graph.quantizations[node.name].limits[0])
    return np.asarray(_windows(x, op).max(axis=(4, 5)))


def _windows(x: Array, op: ops.MaxPool2d | ops.AvgPool2d) -> Array:
    """Every window of every channel: ``(N, C, OH, OW, kh, kw)``, a view."""
    view: Array = sliding_window_view(x, op.kernel, (2, 3))  # type: ignore[call-overload]
    return view[:, :, :: op.stride[0], :: op.stride[1]]


@_computes(ops.AvgPool2d)
def _avg_pool(graph: IntegerGraph, node: Node, op: ops.AvgPool2d, inputs: list[Array]) -> Array:
    """Sums of raw integers over real pixels, divided, halves away from zero; padding that counts is the zero point."""
    zero = int(graph.quantizations[node.inputs[0]].zero_point) if op.count_padding else 0
    total = _windows(_surround(inputs[0].astype(np.int64), op.padding, value=zero), op).sum(axis=(4, 5))
    ones = np.ones((1, 1, *inputs[0].shape[2:]), np.int64)
    count = _windows(_surround(ones, op.padding, value=int(op.count_padding)), op).sum(axis=(4, 5))
    return np.asarray(np.sign(total) * ((np.abs(total) + count // 2) // count))


@_computes(ops.Concat)
def _concat(graph: IntegerGraph, node: Node, op: ops.Concat, inputs: list[Array]) -> Array:
    return np.concatenate(inputs, axis=op.axis)


@_computes(ops.Pad)
def _pad(graph: IntegerGraph, node: Node, op: ops.Pad, inputs: list[Array]) -> Array:
    zero = int(graph.quantizations[node.name].zero_point)
    return np.pad(inputs[0], tuple(zip(op.before, op.after, strict=True)), constant_values=zero)


@_computes(ops.Slice)
def _slice(graph: IntegerGraph, node: Node, op: ops.Slice, inputs: list[Array]) -> Array:
    steps = [slice(a, b, k) for a, b, k in zip(op.start, op.stop, op.step, strict=True)]
    return inputs[0][(slice(None), *steps[1:])]


@_computes(ops.Permute)
def _permute(graph: IntegerGraph, node: Node, op: ops.Permute, inputs: list[Array]) -> Array:
    return inputs[0].transpose(op.order)


@_computes(ops.Resize2d)
def _resize(graph: IntegerGraph, node: Node, op: ops.Resize2d, inputs: list[Array]) -> Array:
    return resize(inputs[0], op)


@_computes(ops.Reshape)
def _reshape(graph: IntegerGraph, node: Node, op: ops.Reshape, inputs: list[Array]) -> Array:
    return inputs[0].reshape(len(inputs[0]), *op.shape)


@_computes(ops.Softmax)
def _softmax(graph: IntegerGraph, node: Node, op: ops.Softmax, inputs: list[Array]) -> Array:
    source, x = graph.quantizations[node.inputs[0]], inputs[0].astype(np.int64)
    return (wide_softmax if source.dtype == "int16" else softmax)(x, np.float32(source.scale), op.axis)
