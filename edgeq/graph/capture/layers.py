"""Rules for ATen calls that compute: convolution, linear, batch norm, piecewise linear activations, pooling."""

from __future__ import annotations

import math

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten, axis_of
from edgeq.graph.capture.channels import as_channels
from edgeq.graph.capture.transposed import conv_transpose2d
from edgeq.graph.ops import Pair, Sides


@aten("conv2d", "convolution")
def _conv2d(call: Call) -> Value:
    weight, bias = call.constant("weight"), call.constant("bias")
    if call.get("transposed", False):
        return conv_transpose2d(call)
    if weight is None or weight.tensor.dim() != 4:
        raise call.unsupported("only two-dimensional convolutions are known", "use nn.Conv2d")
    dilation = call.pair("dilation", (1, 1))
    padding: Sides = _padding(call, (int(weight.tensor.shape[2]), int(weight.tensor.shape[3])), dilation)
    op = ops.Conv2d(call.pair("stride", (1, 1)), padding, dilation, int(call.get("groups", 1)))
    return call.emit(op, call.value("input"), weight, bias)


@aten("conv1d")
def _conv1d(call: Call) -> Value:
    """A convolution over pictures one pixel high."""
    value, weight, bias = call.value("input"), call.constant("weight"), call.constant("bias")
    if weight is None or len(value.shape) != 3:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "give nn.Conv1d (N, C, L)")
    stride, dilation = ((1, call.pair(name, (1, 1))[1]) for name in ("stride", "dilation"))
    left, right = _padding(call, (1, int(weight.tensor.shape[2])), dilation)[2:]
    op = ops.Conv2d(stride, (0, 0, left, right), dilation, int(call.get("groups", 1)))
    picture = call.emit(ops.Reshape((value.shape[1], 1, value.shape[2])), value, label="picture")
    flat = Constant(weight.name, weight.tensor.unsqueeze(2))
    return call.emit(ops.Reshape(call.shape[1:]), call.emit(op, picture, flat, bias))


def _padding(call: Call, kernel: Pair, dilation: Pair) -> Sides:
    given = call.get("padding", [0, 0])
    if given == "valid":
        return (0, 0, 0, 0)
    if given == "same":  # torch puts the odd one at the bottom and right
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    vertical, horizontal = call.pair("padding", (0, 0))
    return (vertical, vertical, horizontal, horizontal)


@aten("linear", "addmm", "mm")
def _linear(call: Call) -> Value:
    if "mat2" in call.arguments:  # decomposed form: the weight arrives transposed
        if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
            raise call.unsupported("beta and alpha must be 1", "use nn.Linear")
        given = call.constant("mat2")
        weight = None if given is None else Constant(given.name, given.tensor.t())
        x, bias = ("mat1", call.constant("self")) if "mat1" in call.arguments else ("self", None)
    else:
        weight, x, bias = call.constant("weight"), "input", call.constant("bias")
    value = call.value(x)
    if len(value.shape) == 2:
        return call.emit(ops.Linear(), value, weight, bias)
    if weight is None or len(value.shape) < 2:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "flatten to (N, features) first")
    picture, back = as_channels(call, value)  # a layer of every pixel or token is a convolution
    kernel = Constant(weight.name, weight.tensor[..., None, None])
    return back(call.emit(ops.Conv2d(), picture, kernel, bias), call.shape[-1:])


@aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
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
    return call.emit(ops.BatchNorm(float(call.get("eps", 1e-5))), call.value("input"), gamma, beta, mean, variance)


@aten("relu", "relu_")
def _relu(call: Call) -> Value:
    return call.emit(ops.RELU, call.value(), label="relu")


@aten("relu6", "relu6_")
def _relu6(call: Call) -> Value:
    return call.emit(ops.RELU6, call.value(), label="relu6")


@aten("hardtanh", "hardtanh_")
def _hardtanh(call: Call) -> Value:
    op = ops.Clamp(float(call["min_val"]), float(call["max_val"]))
    return call.emit(op, call.value(), label="relu6" if op == ops.RELU6 else "")


@aten("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_")
def _clamp(call: Call) -> Value:
    limits = call.get("min", -math.inf), call.get("max", math.inf)
    if not all(isinstance(limit, (int, float)) for limit in limits):
        raise call.unsupported("its limits are tensors", "clamp between two numbers")
    return call.emit(ops.Clamp(float(limits[0]), float(limits[1])), call.value())


@aten("leaky_relu", "leaky_relu_")
def _leaky_relu(call: Call) -> Value:
    return call.emit(ops.LeakyReLU(float(call["negative_slope"])), call.value())


@aten("softmax", "_softmax")
def _softmax(call: Call) -> Value:
    value = call.value()
    rank = len(value.shape)
    axis = axis_of(int(call["dim"]), rank)
    if axis != (1 if rank == 4 else rank - 1) or axis == 0:
        raise call.unsupported(
            f"it runs along {call['dim']} of {list(value.shape)}", "softmax channels of a picture, else what comes last"
        )
    return call.emit(ops.Softmax(axis), value)


@aten("max_pool2d", "max_pool2d_with_indices")
def _max_pool2d(call: Call) -> Value:
    if call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated", "use a max pool without dilation")
    value, kernel = call.value(), call.pair("kernel_size")
    stride, before = call.pair("stride", kernel), call.pair("padding", (0, 0))
    return call.emit(ops.MaxPool2d(kernel, stride, _pool_sides(call, value, kernel, stride, before)), value)


@aten("avg_pool2d")
def _avg_pool2d(call: Call) -> Value:
    value, kernel = call.value(), call.pair("kernel_size")
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
        return call.emit(ops.GlobalAvgPool(), value)
    return call.emit(ops.AvgPool2d(kernel, stride, sides), value)


def _pool_sides(call: Call, value: Value, kernel: Pair, stride: Pair, before: Pair) -> Sides:
    """Padding that gives torch's output size with a floor: ``ceil_mode`` adds at the bottom and right."""
    if len(value.shape) != 4:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "pool (N, C, H, W)")
    after = [
        max(p, (out - 1) * s + k - size - p)
        for out, s, k, size, p in zip(call.shape[2:], stride, kernel, value.shape[2:], before, strict=True)
    ]
    return (before[0], after[0], before[1], after[1])
