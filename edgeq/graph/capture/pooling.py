"""Rules for pools. An adaptive pool is one pool where its windows are alike, else pools of slices, one axis after the
other.
"""

from __future__ import annotations

import math

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Value, aten, own_shape
from edgeq.graph.capture.moves import reshape
from edgeq.graph.ops import Pair, Sides

__all__ = ["adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "max_pool2d"]

Windows = list[tuple[int, int]]
Pool = type[ops.AvgPool2d] | type[ops.MaxPool2d]


@aten("max_pool2d", "max_pool2d_with_indices", anywhere=True)
def max_pool2d(call: Call) -> Value:
    if call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated", "use a max pool without dilation")
    value, kernel = _picture(call), call.pair("kernel_size")
    stride, before = call.pair("stride", kernel), call.pair("padding", (0, 0))
    sides = _pool_sides(call, value, kernel, stride, before)
    return _seen(call, call.emit(ops.MaxPool2d(kernel, stride, sides), value))


@aten("avg_pool2d", anywhere=True)
def avg_pool2d(call: Call) -> Value:
    value, kernel = _picture(call), call.pair("kernel_size")
    stride, before = call.pair("stride", kernel), call.pair("padding", (0, 0))
    if any(before) and call.get("count_include_pad", True):
        # Zeros that count are zeros like any others; no integer runtime's average pool counts its own padding.
        around = (0, 0, *before)
        value, before = call.emit(ops.Pad(around, around), value), (0, 0)
    sides = _pool_sides(call, value, kernel, stride, before)
    if call.get("divisor_override", kernel[0] * kernel[1]) != kernel[0] * kernel[1] or (
        "divisor_override" in call.arguments and any(sides)
    ):
        raise call.unsupported("it divides by something else than the pixels under the window", "drop divisor_override")
    if not any(sides) and kernel == value.shape[2:]:
        return _seen(call, call.emit(ops.GlobalAvgPool(), value))
    return _seen(call, call.emit(ops.AvgPool2d(kernel, stride, sides), value))


def _picture(call: Call) -> Value:
    """What is pooled, as a picture. Every channel is pooled for itself, so windows that torch counts as a batch, and
    a picture without one, are more channels."""
    value = call.value()
    if not value.offset and len(value.shape) == PICTURE:
        return value
    if len(value.seen) not in (PICTURE - 1, PICTURE):
        raise call.unsupported(f"its input has shape {list(value.seen)}", "pool (N, C, H, W)")
    return reshape(call, value, (1, math.prod(value.seen[:-2]), *value.seen[-2:]))


def _seen(call: Call, pooled: Value) -> Value:
    return reshape(call, pooled, own_shape(call.shape))


def _pool_sides(call: Call, value: Value, kernel: Pair, stride: Pair, before: Pair) -> Sides:
    """Padding that gives torch's output size with a floor: ``ceil_mode`` adds at the bottom and right."""
    after = [
        max(p, (out - 1) * s + k - size - p)
        for out, s, k, size, p in zip(call.shape[-2:], stride, kernel, value.shape[2:], before, strict=True)
    ]
    return (before[0], after[0], before[1], after[1])


@aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d", anywhere=True)
def adaptive_avg_pool2d(call: Call) -> Value:
    value = _picture(call)
    if call.shape[-2:] == (1, 1) and value.shape[2:] != (1, 1):
        return _seen(call, call.emit(ops.GlobalAvgPool(), value))
    return _seen(call, _adaptive(call, value, ops.AvgPool2d))


@aten("adaptive_max_pool2d", anywhere=True)
def adaptive_max_pool2d(call: Call) -> Value:
    return _seen(call, _adaptive(call, _picture(call), ops.MaxPool2d))


def _adaptive(call: Call, value: Value, pool: Pool) -> Value:
    (height, width), (rows, columns) = value.shape[2:], call.shape[-2:]
    if height % rows == 0 and width % columns == 0:
        kernel = (height // rows, width // columns)
        return value if kernel == (1, 1) else call.emit(pool(kernel, kernel), value)
    for axis, out in ((2, rows), (3, columns)):
        parts = [_pool(call, value, axis, run, pool) for run in _runs(_windows(value.shape[axis], out))]
        value = parts[0] if len(parts) == 1 else call.emit(ops.Concat(axis), *parts)
    return value


def _windows(size: int, out: int) -> Windows:
    """Torch's window of each output: from ``floor(i n / m)`` up to ``ceil((i + 1) n / m)``."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _runs(windows: Windows) -> list[Windows]:
    """Windows in a row that are equally long and equally far apart: each run is one pool."""
    runs: list[Windows] = []
    for window in windows:
        run = runs[-1] if runs else []
        alike = run and window[1] - window[0] == run[0][1] - run[0][0] and window[0] > run[-1][0]
        if alike and (len(run) == 1 or window[0] - run[-1][0] == run[1][0] - run[0][0]):
            run.append(window)
        else:
            runs.append([window])
    return runs


def _pool(call: Call, value: Value, axis: int, run: Windows, pool: Pool) -> Value:
    """The run's outputs along `axis`, from the part of the picture its windows see."""
    start, stop = [0] * 4, list(value.shape)
    start[axis], stop[axis] = run[0][0], run[-1][1]
    if (start[axis], stop[axis]) != (0, value.shape[axis]):
        value = call.emit(ops.Slice(tuple(start), tuple(stop), (1,) * 4), value, label="part")
    kernel, stride = [1, 1], [1, 1]
    kernel[axis - 2] = run[0][1] - run[0][0]
    stride[axis - 2] = run[1][0] - run[0][0] if len(run) > 1 else kernel[axis - 2]
    if kernel == stride == [1, 1]:
        return value
    return call.emit(pool((kernel[0], kernel[1]), (stride[0], stride[1])), value)
