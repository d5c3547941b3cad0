"""Rules for softmax, batch norm, and norms that look at every input anew: over channels, groups, or all of a map.

The latter are made of a mean as a convolution, a sum, a mean of squares, an inverse square root and a product, all of
which both runtimes have in integers; the scale and shift per channel become part of the layer that follows.
"""

from __future__ import annotations

import math

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Constant, Value, aten
from edgeq.graph.capture.channels import as_channels
from edgeq.graph.capture.elementwise import affine
from edgeq.graph.capture.moves import permute, reshape
from edgeq.graph.capture.reductions import average, mean_square
from edgeq.graph.ops import MOST_SQUARES, Affine, MeanSquare, Mul, Rsqrt


@aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm", anywhere=True)
def _batch_norm(call: Call) -> Value:
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    if call.get("training", False) or mean is None or variance is None:
        raise call.unsupported(
            "it normalises with the statistics of each batch",
            "call model.eval() before exporting and keep track_running_stats=True",
        )
    gamma, beta = call.constant("weight"), call.constant("bias")
    stem = mean.name.rpartition(".")[0]
    prefix = f"{stem}." if stem else ""
    gamma = gamma or Constant(f"{prefix}weight", mean.tensor.new_ones(mean.tensor.shape))
    beta = beta or Constant(f"{prefix}bias", mean.tensor.new_zeros(mean.tensor.shape))
    value, norm = call.value("input"), ops.BatchNorm(float(call.get("eps", 1e-5)))
    axis = call.axis(1, value)
    if axis == 1:
        return call.emit(norm, value, gamma, beta, mean, variance)
    if axis == 0:
        raise call.unsupported(f"the batch was moved into {list(value.seen)}", "keep the batch in front")
    order = (*(place for place in range(len(value.shape)) if place != axis), axis)
    moved = permute(call, value, order)  # of tokens or variables, which torch takes for so many samples
    picture, back = as_channels(call, moved)
    made = back(call.emit(norm, picture, gamma, beta, mean, variance), moved.shape[-1:])
    return permute(call, made, tuple(order.index(place) for place in range(len(order))))


@aten("softmax", "_softmax", anywhere=True)
def _softmax(call: Call) -> Value:
    value = call.value()
    return softmax(call, value, call.axis(int(call["dim"]), value))


def softmax(call: Call, value: Value, axis: int) -> Value:
    """Softmax of `value` along `axis` of its own shape. Files have one along what they have last: the channels of a
    picture, else the last dimension; another is brought there and back."""
    rank = len(value.shape)
    last = 1 if rank == PICTURE else rank - 1
    if axis == 0:
        raise call.unsupported("it runs along the batch", "softmax channels, or what comes last")
    if axis == last:
        return call.emit(ops.Softmax(axis), value)
    order = [place for place in range(rank) if place != axis]
    order.insert(last, axis)
    back = tuple(order.index(place) for place in range(rank))
    return permute(call, call.emit(ops.Softmax(last), permute(call, value, tuple(order))), back)


@aten("layer_norm", "native_layer_norm", anywhere=True)
def _layer_norm(call: Call) -> Value:
    tail = tuple(int(size) for size in call["normalized_shape"])
    return _over_last(call, call.value("input"), tail, float(call.get("eps", 1e-5)), centred=True)


@aten("rms_norm", anywhere=True)
def _rms_norm(call: Call) -> Value:
    tail = tuple(int(size) for size in call["normalized_shape"])
    eps = float(call.get("eps", torch.finfo(torch.float32).eps))
    return _over_last(call, call.value("input"), tail, eps, centred=False)


@aten("group_norm", "native_group_norm")
def _group_norm(call: Call) -> Value:
    groups = int(call.get("num_groups", call.get("group", 1)))
    return _in_groups(call, call.value("input"), groups, float(call.get("eps", 1e-5)))


@aten("instance_norm")
def _instance_norm(call: Call) -> Value:
    if not call.get("use_input_stats", True):
        raise call.unsupported("it normalises with running statistics", "use nn.BatchNorm2d with the same statistics")
    value = call.value("input")
    return _in_groups(call, value, value.shape[1], float(call.get("eps", 1e-5)))


def _over_last(call: Call, value: Value, tail: ops.Shape, eps: float, *, centred: bool) -> Value:
    if len(tail) >= len(value.shape) or value.shape[len(value.shape) - len(tail) :] != tail:
        raise call.unsupported(f"it norms {list(tail)} of {list(value.shape)}", "leave the batch out of the norm")
    if centred and len(tail) == 3 and call.constant("weight") is None and call.constant("bias") is None:
        return _in_groups(call, value, 1, eps)
    picture, back = as_channels(call, value, len(tail))
    return back(_affine(call, _normalize(call, picture, eps, centred=centred)), tail)


def _in_groups(call: Call, value: Value, groups: int, eps: float) -> Value:
    """Each of `groups` runs of channels over all of the map."""
    _, channels, *rest = value.shape
    size = channels // groups
    picture = value if len(rest) == 2 else reshape(call, value, (1, channels, 1, math.prod(rest)))
    mean = average(call, picture, [2, 3])
    mean = _blend(call, mean, groups, -1.0, 0.0, "mean") if size > 1 else affine(call, mean, -1.0, 0.0, "mean")
    centred = call.emit(ops.Add(), picture, mean, label="centred")
    if groups == 1:
        power = mean_square(call, centred, [1, 2, 3], eps)
    elif size == 1:
        power = mean_square(call, centred, [2, 3], eps)
    else:
        power = _blend(call, mean_square(call, centred, [2, 3]), groups, 1.0, eps, "power")
    normed = call.emit(Mul(), centred, call.emit(Rsqrt(), power, label="rsqrt"), label="normed")
    return _affine(call, reshape(call, normed, value.shape))


def _blend(call: Call, x: Value, groups: int, factor: float, shift: float, label: str) -> Value:
    """`factor` times the mean over each group of channels of ``(1, C, 1, 1)``, plus `shift`: one number where there is
    one group, else one for each channel of the group."""
    channels = x.shape[1]
    size = channels // groups
    rows = 1 if groups == 1 else channels
    weight = torch.kron(torch.eye(groups), torch.full((rows // groups, size), factor / size))
    bias = Constant(f"{label}.bias", torch.full((rows,), shift)) if shift else None
    return call.emit(ops.Conv2d(), x, Constant(f"{label}.weight", weight[..., None, None]), bias, label=label)


def _normalize(call: Call, x: Value, eps: float, *, centred: bool) -> Value:
    """``(1, C, H, W)`` over its channels."""
    channels = x.shape[1]
    if channels > MOST_SQUARES:
        raise call.unsupported(
            f"it sums {channels} squares", f"a 32-bit sum holds {MOST_SQUARES}: norm over channels, or smaller groups"
        )
    if centred:
        weight = Constant("mean.weight", torch.full((1, channels, 1, 1), -1 / channels))
        mean = call.emit(ops.Conv2d(), x, weight, label="mean")
        x = call.emit(ops.Add(), x, mean, label="centred")
    power = call.emit(MeanSquare(eps), x, label="power")
    return call.emit(Mul(), x, call.emit(Rsqrt(), power, label="rsqrt"), label="normed")


def _affine(call: Call, x: Value) -> Value:
    """The norm's own scale and shift, one per channel of `x`."""
    weight, bias = call.constant("weight"), call.constant("bias")
    if weight is None and bias is None:
        return x
    ones, zeros = torch.ones(x.shape[1]), torch.zeros(x.shape[1])
    scale = Constant("scale", ones) if weight is None else Constant(weight.name, weight.tensor.reshape(-1))
    shift = Constant("shift", zeros) if bias is None else Constant(bias.name, bias.tensor.reshape(-1))
    return call.emit(Affine(), x, scale, shift)
