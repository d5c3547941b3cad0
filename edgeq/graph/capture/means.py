"""The rule for means over chosen dimensions, each as a pool or a convolution that computes it in integers."""

from __future__ import annotations

import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten, axis_of
from edgeq.graph.capture.moves import permuted, reshaped

_HINT = "average (N, C, H, W) over channels, height or width, or (N, L, C) over one of the last two"


@aten("mean")
def _mean(call: Call) -> Value:
    value = call.value()
    rank = len(value.shape)
    axes = sorted(axis_of(int(dim), rank) for dim in call.get("dim", range(rank)))
    if rank not in (3, 4) or axes[:1] == [0] or (rank == 3 and len(axes) != 1):
        raise call.unsupported(f"it averages over {axes} of {list(value.shape)}", _HINT)
    if rank == 3 and axes == [2]:
        value, axes = reshaped(call, value, (*value.shape, 1)), [2, 3]
    elif rank == 3:  # tokens stay in rows, where a file has them
        value, axes = reshaped(call, value, (1, 1, *value.shape[1:])), [2]
    elif axes == [1, 2]:  # of channels that lie last, as those who average these have them
        value, axes = permuted(call, value, (0, 3, 1, 2)), [2, 3]
    _, channels, height, width = value.shape
    if axes[-2:] == [2, 3]:
        if (height, width) != (1, 1):
            value = call.emit(ops.GlobalAvgPool(), value, label="mean")
    elif 2 in axes or 3 in axes:
        kernel = (height if 2 in axes else 1, width if 3 in axes else 1)
        if kernel != (1, 1):
            value = call.emit(ops.AvgPool2d(kernel, kernel), value, label="mean")
    if 1 in axes and channels > 1:
        weight = Constant("mean.weight", torch.full((1, channels, 1, 1), 1 / channels))
        value = call.emit(ops.Conv2d(), value, weight, label="mean")
    return reshaped(call, value, call.shape)
