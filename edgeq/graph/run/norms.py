"""Float kernels of batch norm, softmax and the parts of a layer norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.graph import ops
from edgeq.graph.run.table import KERNELS, Kernel

__all__: list[str] = []

SMALLEST_POWER = 1e-12
"""Below it an inverse square root says what it says there: what was rounded to 0 is no reason for infinity."""


@KERNELS.rule(ops.MeanSquare)
def _mean_square(op: ops.MeanSquare) -> Kernel:
    return lambda x: x.square().mean(1, keepdim=True) + op.eps


@KERNELS.rule(ops.Rsqrt)
def _rsqrt(op: ops.Rsqrt) -> Kernel:
    return lambda x: x.clamp(min=SMALLEST_POWER).rsqrt()


@KERNELS.rule(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm) -> Kernel:
    def kernel(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, op.eps)

    return kernel


@KERNELS.rule(ops.Softmax)
def _softmax(op: ops.Softmax) -> Kernel:
    return lambda x: torch.softmax(x if op.beta == 1 else x * op.beta, op.axis)
