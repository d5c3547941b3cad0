"""Float kernels of convolutions, linear layers and pools."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from edgeq.graph import ops
from edgeq.graph.ops import Sides
from edgeq.graph.run.elementwise import then
from edgeq.graph.run.table import KERNELS, Kernel

__all__: list[str] = []


def _symmetric(padding: Sides) -> bool:
    return padding[0] == padding[1] and padding[2] == padding[3]


def _last_first(padding: Sides) -> list[int]:
    top, bottom, left, right = padding
    return [left, right, top, bottom]


@KERNELS.rule(ops.Conv2d)
def _conv2d(op: ops.Conv2d) -> Kernel:
    stride, dilation, groups = list(op.stride), list(op.dilation), op.groups
    inside = [op.padding[0], op.padding[2]] if _symmetric(op.padding) else [0, 0]
    outside = None if _symmetric(op.padding) else _last_first(op.padding)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if outside is not None:
            x = F.pad(x, outside)
        return F.conv2d(x, weight, bias, stride, inside, dilation, groups)

    return then(kernel, op.activation)


@KERNELS.rule(ops.ConvTranspose2d)
def _conv_transpose2d(op: ops.ConvTranspose2d) -> Kernel:
    stride, groups = list(op.stride), op.groups
    cut = [-side for side in _last_first(op.padding)]

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        o, i, kh, kw = weight.shape
        theirs = weight.view(groups, o // groups, i, kh, kw).transpose(1, 2).reshape(groups * i, o // groups, kh, kw)
        whole = F.pad(F.conv_transpose2d(x, theirs, None, stride, groups=groups), cut)
        return whole if bias is None else whole + bias.view(1, -1, 1, 1)

    return then(kernel, op.activation)


@KERNELS.rule(ops.Linear)
def _linear(op: ops.Linear) -> Kernel:
    return then(F.linear, op.activation)


def _poolable(op: ops.MaxPool2d | ops.AvgPool2d) -> bool:
    """Torch's pools pad both sides alike and by at most half the window."""
    return _symmetric(op.padding) and op.padding[0] <= op.kernel[0] // 2 and op.padding[2] <= op.kernel[1] // 2


@KERNELS.rule(ops.MaxPool2d)
def _max_pool2d(op: ops.MaxPool2d) -> Kernel:
    if _poolable(op):
        return lambda x: F.max_pool2d(x, op.kernel, op.stride, (op.padding[0], op.padding[2]))
    sides = _last_first(op.padding)
    return lambda x: F.max_pool2d(F.pad(x, sides, value=-math.inf), op.kernel, op.stride)


@KERNELS.rule(ops.AvgPool2d)
def _avg_pool2d(op: ops.AvgPool2d) -> Kernel:
    if _poolable(op):
        inside = (op.padding[0], op.padding[2])
        return lambda x: F.avg_pool2d(x, op.kernel, op.stride, inside, False, op.count_padding)
    sides = _last_first(op.padding)

    def kernel(x: Tensor) -> Tensor:
        mean = F.avg_pool2d(F.pad(x, sides), op.kernel, op.stride)
        if op.count_padding:
            return mean
        real = F.avg_pool2d(F.pad(x.new_ones((1, 1, *x.shape[2:])), sides), op.kernel, op.stride)
        return mean / real

    return kernel


@KERNELS.rule(ops.GlobalAvgPool)
def _global_avg_pool(op: ops.GlobalAvgPool) -> Kernel:
    return lambda x: x.mean((2, 3), keepdim=True)
