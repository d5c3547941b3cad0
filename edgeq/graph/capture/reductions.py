"""Rules for means, sums and extremes over chosen dimensions.

A mean is a pool, or over channels a convolution, which compute it in integers. A sum is such a mean times the number of
values, or a convolution of ones. A maximum is a pool, too. For that of channels, they become the columns of a picture.
"""

from __future__ import annotations

import functools
import math

import torch

from edgeq.graph import ops
from edgeq.graph.capture.arithmetic import absolute, maximum
from edgeq.graph.capture.aten import Call, Constant, Value, aten, own_shape
from edgeq.graph.capture.channels import as_channels
from edgeq.graph.capture.elementwise import affine, sum_of, times
from edgeq.graph.capture.moves import permute, reshape

__all__ = ["average", "mean_square"]


@aten("mean", anywhere=True)
def _mean(call: Call) -> Value:
    value, axes = call.value(), axes_of(call)
    if parts := _stacked(value, axes):
        return _seen(call, affine(call, _added(call, parts), 1 / len(parts), 0.0, "mean"))
    return _seen(call, average(call, value, axes))


@aten("sum", anywhere=True)
def _sum(call: Call) -> Value:
    value, axes = call.value(), axes_of(call)
    parts = _stacked(value, axes)
    return _seen(call, _added(call, parts) if parts else average(call, value, axes, total=True))


def _seen(call: Call, made: Value) -> Value:
    """What was made of the call's value, as torch sees it, wherever the batch of that value is."""
    return reshape(call, made, own_shape(call.shape))


def _stacked(value: Value, axes: list[int]) -> tuple[Value, ...]:
    """What `value` is a stack of, where the only one of `axes` is the one it was stacked along; else nothing."""
    axis, parts = value.stacked
    return parts if axes == [axis] else ()


def _added(call: Call, parts: tuple[Value, ...]) -> Value:
    return functools.reduce(lambda left, right: call.emit(ops.Add(), left, right, label="sum"), parts)


@aten("amax", anywhere=True)
def _amax(call: Call) -> Value:
    value, axes = call.value(), axes_of(call)
    if parts := _stacked(value, axes):
        larger = functools.reduce(lambda left, right: call.emit(ops.Maximum(), left, right, label="max"), parts)
        return _seen(call, larger)
    return _seen(call, _largest(call, value, axes))


@aten("amin", anywhere=True)
def _amin(call: Call) -> Value:
    return _seen(call, _smallest(call, call.value(), axes_of(call)))


@aten("max", anywhere=True)
def _max(call: Call) -> Value:
    """Of two values, or along a dimension; where the largest was is not told."""
    return maximum(call, call["self"], call["other"]) if "other" in call.arguments else _amax(call)


@aten("min", anywhere=True)
def _min(call: Call) -> Value:
    if "other" not in call.arguments:
        return _amin(call)
    return _negated(call, maximum(call, *(times(call, call[name], -1) for name in ("self", "other"))))


@aten("var", anywhere=True)
def _var(call: Call) -> Value:
    return _seen(call, _variance(call))


@aten("std", anywhere=True)
def _std(call: Call) -> Value:
    return _seen(call, call.emit(ops.Power(0.5), _variance(call), label="std"))


def _variance(call: Call) -> Value:
    """The mean square of what is left when the mean is taken away."""
    value, axes = call.value(), axes_of(call)
    count = math.prod(value.shape[axis] for axis in axes)
    given = call.arguments.get("correction")
    less = float(call.get("unbiased", True)) if given is None else float(given)
    if count <= less:
        raise call.unsupported(f"it is the variance of {count} values", "take it over more, or with correction=0")
    mean = reshape(call, average(call, value, axes), _kept(value, axes))
    centred = sum_of(call, value, times(call, mean, -1))
    power = mean_square(call, centred, axes, of_positions=True)
    return power if less == 0 else affine(call, power, count / (count - less), 0.0, "unbiased")


@aten("linalg_vector_norm", "norm", anywhere=True)
def _norm(call: Call) -> Value:
    """The root of a sum of squares, a sum of absolute values, or the largest of them."""
    name = "ord" if "ord" in call.arguments else "p"
    value, axes, order = call.value(), axes_of(call), float(call.get(name, 2))
    if order == 2:
        count = math.prod(value.shape[axis] for axis in axes)
        root = call.emit(ops.Power(0.5), mean_square(call, value, axes), label="norm")
        return _seen(call, affine(call, root, math.sqrt(count), 0.0, "norm"))
    if order == 1:
        return _seen(call, average(call, absolute(call, value), axes, total=True))
    if order == math.inf:
        return _seen(call, _largest(call, absolute(call, value), axes))
    raise call.unsupported(f"its order is {order:g}", "take the norm of order 1, 2 or infinity")


def mean_square(call: Call, value: Value, axes: list[int], eps: float = 0.0, *, of_positions: bool = False) -> Value:
    """The mean of the squares over `axes`, plus `eps`, with those dimensions kept as 1s.

    Over channels a product of matrices sums the squares exactly; over a map they are rounded first. The last dimension
    of ``(N, ?, ?)`` counts as channels, as in a layer norm, or as positions, as in a recording.
    """
    kept, rank = _kept(value, axes), len(value.shape)
    last = list(range(rank - len(axes), rank))
    if (
        rank != 4
        and axes == last
        and not (of_positions and rank == 3)
        and math.prod(value.shape[axis] for axis in axes) <= ops.MOST_SQUARES
    ):
        picture, back = as_channels(call, value, len(axes))
        return back(call.emit(ops.MeanSquare(eps), picture, label="power"), (1,) * len(axes))
    if rank == 4 and 1 in axes and value.shape[1] <= ops.MOST_SQUARES:
        power = call.emit(ops.MeanSquare(eps), value, label="power")
        return reshape(call, average(call, power, [axis for axis in axes if axis != 1]), kept)
    square = call.emit(ops.Mul(), value, value, label="square")
    mean = reshape(call, average(call, square, axes), kept)
    return affine(call, mean, 1.0, eps, "eps") if eps else mean


def _kept(value: Value, axes: list[int]) -> ops.Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))


@aten("log_softmax", "_log_softmax", anywhere=True)
def _log_softmax(call: Call) -> Value:
    """``d - log(sum(exp(d)))`` with ``d = x - max(x)``. Each step keeps the order of the classes."""
    value = call.value()
    axes = [call.axis(int(call["dim"]), value)]
    if axes == [0]:
        raise call.unsupported("it runs along the batch", "give it the dimension of the classes")
    kept = _kept(value, axes)
    largest = reshape(call, _largest(call, value, axes), kept)
    below = sum_of(call, value, times(call, largest, -1))
    total = average(call, call.emit(ops.Exp(), below), axes, total=True)
    return sum_of(call, below, times(call, call.emit(ops.Log(), reshape(call, total, kept)), -1))


@aten("logsumexp", anywhere=True)
def _logsumexp(call: Call) -> Value:
    value, axes = call.value(), axes_of(call)
    kept = _kept(value, axes)
    largest = reshape(call, _largest(call, value, axes), kept)
    power = call.emit(ops.Exp(), sum_of(call, value, times(call, largest, -1)))
    total = reshape(call, average(call, power, axes, total=True), kept)
    return _seen(call, sum_of(call, largest, call.emit(ops.Log(), total)))


def axes_of(call: Call) -> list[int]:
    """The dimensions that the call is about, counted from the front, without the batch."""
    value, given = call.value(), call.arguments.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(len(value.seen)))
    return sorted({call.axis(int(dim), value) for dim in dims} - {0})


def average(call: Call, value: Value, axes: list[int], *, total: bool = False) -> Value:
    """The mean (or with `total` the sum) over `axes`; the dimensions that stay are in order, with 1s between them."""
    if len(value.shape) == 4:
        return _average_picture(call, value, axes, total)
    axes = [axis for axis in axes if value.shape[axis] > 1]
    if not axes:
        return value
    picture, axis, left = _last_run(call, value, axes)
    reduced, rest = _average_picture(call, picture, axis, total), [axis for axis in axes if left[axis] > 1]
    return average(call, reshape(call, reduced, left), rest, total=total) if rest else reduced


def _last_run(call: Call, value: Value, axes: list[int]) -> tuple[Value, list[int], ops.Shape]:
    """A picture with the last run of `axes` as one or both of its dimensions, those dimensions, and the shape of
    `value` once that run is reduced to 1s."""
    last = axes[-1]
    first = next(axis for axis in range(last, 0, -1) if axis - 1 not in axes)
    shape = value.shape
    before, inside, after = (math.prod(part) for part in (shape[1:first], shape[first : last + 1], shape[last + 1 :]))
    left = (*shape[:first], *[1] * (last + 1 - first), *shape[last + 1 :])
    if after == 1:
        return reshape(call, value, (1, before, 1, inside)), [2, 3], left
    return reshape(call, value, (1, before, inside, after)), [2], left


def _average_picture(call: Call, value: Value, axes: list[int], total: bool) -> Value:
    if axes == [1, 2]:  # of channels that lie last, as those who average these have them
        value, axes = permute(call, value, (0, 3, 1, 2)), [2, 3]
    _, channels, height, width = value.shape
    label = "sum" if total else "mean"
    if axes[-2:] == [2, 3]:
        if (height, width) != (1, 1):
            value = call.emit(ops.GlobalAvgPool(), value, label="mean")
            value = affine(call, value, float(height * width), 0.0, label) if total else value
    elif 2 in axes or 3 in axes:
        kernel = (height if 2 in axes else 1, width if 3 in axes else 1)
        if kernel != (1, 1) and total:
            ones = Constant("sum.weight", torch.ones(channels, 1, *kernel))
            value = call.emit(ops.Conv2d(groups=channels), value, ones, label=label)
        elif kernel != (1, 1):
            value = call.emit(ops.AvgPool2d(kernel, kernel), value, label=label)
    if 1 in axes and channels > 1:
        weight = torch.full((1, channels, 1, 1), 1.0 if total else 1 / channels)
        value = call.emit(ops.Conv2d(), value, Constant(f"{label}.weight", weight), label=label)
    return value


def _largest(call: Call, value: Value, axes: list[int]) -> Value:
    """The maximum over `axes`; the dimensions that stay are in order, with 1s between them."""
    axes = [axis for axis in axes if value.shape[axis] > 1]
    if not axes:
        return value
    if len(value.shape) == 4 and {2, 3} & {*axes}:
        kernel = (value.shape[2] if 2 in axes else 1, value.shape[3] if 3 in axes else 1)
        pooled = call.emit(ops.MaxPool2d(kernel, kernel), value, label="max")
        return _largest(call, pooled, [axis for axis in axes if axis == 1])
    if len(value.shape) == 4:
        _, channels, height, width = value.shape
        rows = permute(call, reshape(call, value, (1, channels, height * width)), (0, 2, 1))
        return reshape(call, _largest(call, rows, [2]), (1, 1, height, width))
    last = axes[-1]
    before, after = math.prod(value.shape[1:last]), math.prod(value.shape[last + 1 :])
    left = (*value.shape[:last], 1, *value.shape[last + 1 :])
    if after == 1:
        picture, kernel = reshape(call, value, (1, 1, before, value.shape[last])), (1, value.shape[last])
    else:
        picture, kernel = reshape(call, value, (1, before, value.shape[last], after)), (value.shape[last], 1)
    pooled = call.emit(ops.MaxPool2d(kernel, kernel), picture, label="max")
    return _largest(call, reshape(call, pooled, left), axes[:-1])


def _smallest(call: Call, value: Value, axes: list[int]) -> Value:
    return _negated(call, _largest(call, _negated(call, value), axes))


def _negated(call: Call, value: Value) -> Value:
    return affine(call, value, -1.0, 0.0, "negative")
