"""Rules for convolutions and linear layers."""

from __future__ import annotations

from edgeq.graph import ops
from edgeq.graph.capture.aten import PICTURE, Call, Constant, Value, aten, own_shape
from edgeq.graph.capture.channels import as_channels
from edgeq.graph.capture.moves import reshape
from edgeq.graph.ops import Pair, Shape, Sides

__all__ = ["conv_transpose2d", "linear"]

MOST_REPEATED = 2**20
"""Weights of a convolution that are repeated for every sample where torch merged others into the batch."""


@aten("convolution")
@aten("conv2d", anywhere=True)
def _conv2d(call: Call) -> Value:
    weight, bias = call.constant("weight"), call.constant("bias")
    if call.get("transposed", False):
        return conv_transpose2d(call)
    if weight is None or weight.tensor.dim() != 4:
        raise call.unsupported("only two-dimensional convolutions are known", "use nn.Conv2d")
    dilation, groups, value = call.pair("dilation", (1, 1)), int(call.get("groups", 1)), call.value("input")
    padding: Sides = _padding(call, (int(weight.tensor.shape[2]), int(weight.tensor.shape[3])), dilation)
    if not value.offset:
        return call.emit(ops.Conv2d(call.pair("stride", (1, 1)), padding, dilation, groups), value, weight, bias)
    count, channels, *size = value.seen if len(value.seen) == PICTURE else (1, *value.seen)
    if count * weight.tensor.numel() > MOST_REPEATED:
        raise call.unsupported(f"it has {count} samples", "keep a batch of 1: heads and windows belong in channels")
    picture = reshape(call, value, (1, count * channels, *size))  # samples of torch's are groups of channels here
    weight = Constant(weight.name, weight.tensor.repeat(count, 1, 1, 1))
    bias = None if bias is None else Constant(bias.name, bias.tensor.repeat(count))
    op = ops.Conv2d(call.pair("stride", (1, 1)), padding, dilation, groups * count)
    return reshape(call, call.emit(op, picture, weight, bias), own_shape(call.shape))


@aten("conv_transpose2d")
def conv_transpose2d(call: Call) -> Value:
    weight, bias = call.constant("weight"), call.constant("bias")
    if weight is None or weight.tensor.dim() != 4:
        raise call.unsupported("only two-dimensional transposed convolutions are known", "use nn.ConvTranspose2d")
    if call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated", "use a transposed convolution without dilation")
    groups = int(call.get("groups", 1))
    i, o, kh, kw = weight.tensor.shape  # torch keeps (inputs, outputs / groups, ...)
    ours = weight.tensor.reshape(groups, i // groups, o, kh, kw).transpose(1, 2).reshape(groups * o, -1, kh, kw)
    (top, left), (down, right) = call.pair("padding", (0, 0)), call.pair("output_padding", (0, 0))
    cut = (top, top - down, left, left - right)
    op = ops.ConvTranspose2d(call.pair("stride", (1, 1)), cut, groups)
    return call.emit(op, call.value("input"), Constant(weight.name, ours), bias)


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


@aten("linear", "addmm", anywhere=True)
def _linear(call: Call) -> Value:
    if "mat2" not in call.arguments:
        return linear(call, call.value("input"), call.constant("weight"), call.constant("bias"))
    if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
        raise call.unsupported("beta and alpha must be 1", "use nn.Linear")
    given = call.constant("mat2")  # decomposed form: the weight arrives transposed
    weight = None if given is None else Constant(given.name, given.tensor.t())
    return linear(call, call.value("mat1"), weight, call.constant("self"))


def linear(
    call: Call, value: Value, weight: Constant | None, bias: Constant | None, tail: Shape | None = None
) -> Value:
    """A linear layer ``(C_out, C_in)`` over the last dimension of `value`; `tail` is what that becomes, where it is
    not the call's."""
    if len(value.shape) == 2:
        return call.emit(ops.Linear(), value, weight, bias)
    if weight is None or len(value.shape) < 2:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "flatten to (N, features) first")
    picture, back = as_channels(call, value)  # a layer of every pixel or token is a convolution
    kernel = Constant(weight.name, weight.tensor[..., None, None])
    return back(call.emit(ops.Conv2d(), picture, kernel, bias), tail or call.shape[-1:])
