"""Float kernels of the ops that move, select or resize."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from edgeq.graph import ops
from edgeq.graph.run.table import KERNELS, Kernel

__all__: list[str] = []


@KERNELS.rule(ops.Concat)
def _concat(op: ops.Concat) -> Kernel:
    return lambda *inputs: torch.cat(inputs, op.axis)


@KERNELS.rule(ops.Constant)
def _constant(op: ops.Constant) -> Kernel:
    return lambda constant: constant


@KERNELS.rule(ops.Pad)
def _pad(op: ops.Pad) -> Kernel:
    counts = [c for pair in zip(reversed(op.before), reversed(op.after), strict=True) for c in pair]
    return lambda x: F.pad(x, counts[:-2], value=-math.inf if op.lowest else 0.0)


@KERNELS.rule(ops.Slice)
def _slice(op: ops.Slice) -> Kernel:
    pieces = (slice(None), *(slice(*p) for p in zip(op.start[1:], op.stop[1:], op.step[1:], strict=True)))
    return lambda x: x[pieces]


@KERNELS.rule(ops.Permute)
def _permute(op: ops.Permute) -> Kernel:
    return lambda x: x.permute(op.order)


@KERNELS.rule(ops.Resize2d)
def _resize(op: ops.Resize2d) -> Kernel:
    corners = op.align_corners if op.mode == "bilinear" else None
    return lambda x: F.interpolate(x, list(op.size), mode=op.mode, align_corners=corners)


@KERNELS.rule(ops.Reshape)
def _reshape(op: ops.Reshape) -> Kernel:
    return lambda x: x.reshape(x.shape[0], *op.shape)
