"""Rules for calls that are one constant matrix along a dimension: running sums, bicubic and antialiased resizing."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.layers import linear
from edgeq.graph.capture.moves import permute

__all__ = ["along"]


@aten("cumsum", anywhere=True)
def _cumsum(call: Call) -> Value:
    """Below its diagonal the matrix holds ones."""
    value = call.value()
    axis = call.axis(int(call["dim"]), value)
    if axis == 0:
        raise call.unsupported("it sums over the batch", "sum over channels, rows or columns")
    size = value.shape[axis]
    return along(call, value, axis, torch.ones(size, size).tril(), "sums")


@aten("upsample_bicubic2d", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa")
def _resize(call: Call) -> Value:
    """Rows and columns are interpolated one after the other: each as torch resizes single pixels."""
    value = call.activation(call.get("input", call.get("self")))
    corners, name = bool(call.get("align_corners", False)), call.name.split(".")[1]
    scales = call.get("scale_factors") or [call.get("scales_h"), call.get("scales_w")]
    for axis, scale in zip((2, 3), scales, strict=True):
        size, out = value.shape[axis], call.shape[axis]
        if size != out:
            pixels = torch.eye(size).reshape(1, 1, size, size)
            resized = getattr(torch.ops.aten, name)(pixels, [out, size], corners, scale, None)
            value = along(call, value, axis, resized.reshape(out, size), "resized")
    return value


def along(call: Call, value: Value, axis: int, matrix: Tensor, label: str) -> Value:
    """``matrix (M, N)`` times every run of N numbers of `value` along `axis`, M numbers each."""
    last = len(value.shape) - 1
    order = list(range(last + 1))
    order[axis], order[last] = last, axis
    turned = permute(call, value, tuple(order))
    made = linear(call, turned, Constant(f"{label}.weight", matrix.contiguous()), None, tuple(matrix.shape[:1]))
    return permute(call, made, tuple(order))
