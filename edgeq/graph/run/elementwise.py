"""Float kernels of the ops that compute value by value."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.graph import ops
from edgeq.graph.run.table import KERNELS, Kernel

__all__ = ["then"]

NEAREST_TO_0 = 1e-12
"""What logarithms and inverses read in place of what is nearer to 0."""


@KERNELS.rule(ops.Clamp)
def _clamp(op: ops.Clamp) -> Kernel:
    if op == ops.RELU:
        return F.relu
    low = None if op.minimum == -math.inf else op.minimum
    high = None if op.maximum == math.inf else op.maximum
    if low is None and high is None:
        return lambda x: x
    if low is not None and high is not None and low <= high:
        return lambda x: F.hardtanh(x, low, high)  # no gradient at the limits, as the networks themselves have it
    return lambda x: torch.clamp(x, low, high)


def then(kernel: Kernel, activation: ops.Clamp | None) -> Kernel:
    """`kernel` with `activation` applied to its result."""
    if activation is None:
        return kernel
    limit = _clamp(activation)
    return lambda *inputs: limit(kernel(*inputs))


@KERNELS.rule(ops.Add)
def _add(op: ops.Add) -> Kernel:
    return then(torch.add, op.activation)


@KERNELS.rule(ops.Requantize)
def _requantize(op: ops.Requantize) -> Kernel:
    return lambda x: x


@KERNELS.rule(ops.Mul)
def _mul(op: ops.Mul) -> Kernel:
    return torch.mul


@KERNELS.rule(ops.Maximum)
def _maximum(op: ops.Maximum) -> Kernel:
    return torch.maximum


@KERNELS.rule(ops.Affine)
def _affine(op: ops.Affine) -> Kernel:
    def kernel(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)

    return kernel


@KERNELS.rule(ops.Sigmoid)
def _sigmoid(op: ops.Sigmoid) -> Kernel:
    return torch.sigmoid


@KERNELS.rule(ops.Tanh)
def _tanh(op: ops.Tanh) -> Kernel:
    return torch.tanh


@KERNELS.rule(ops.HardSigmoid)
def _hard_sigmoid(op: ops.HardSigmoid) -> Kernel:
    return F.hardsigmoid


@KERNELS.rule(ops.HardSwish)
def _hard_swish(op: ops.HardSwish) -> Kernel:
    return F.hardswish


@KERNELS.rule(ops.GELU)
def _gelu(op: ops.GELU) -> Kernel:
    return lambda x: F.gelu(x, approximate="tanh" if op.approximate else "none")


@KERNELS.rule(ops.ELU)
def _elu(op: ops.ELU) -> Kernel:
    return lambda x: torch.ops.aten.elu(x, op.alpha, op.scale, op.input_scale)


@KERNELS.rule(ops.Softplus)
def _softplus(op: ops.Softplus) -> Kernel:
    return F.softplus


@KERNELS.rule(ops.Mish)
def _mish(op: ops.Mish) -> Kernel:
    return F.mish


@KERNELS.rule(ops.LeakyReLU)
def _leaky_relu(op: ops.LeakyReLU) -> Kernel:
    return lambda x: F.leaky_relu(x, op.slope)


@KERNELS.rule(ops.Exp)
def _exp(op: ops.Exp) -> Kernel:
    return torch.exp


@KERNELS.rule(ops.Log)
def _log(op: ops.Log) -> Kernel:
    return lambda x: torch.log(x.clamp(min=NEAREST_TO_0))


@KERNELS.rule(ops.Sin)
def _sin(op: ops.Sin) -> Kernel:
    return torch.sin


@KERNELS.rule(ops.Power)
def _power(op: ops.Power) -> Kernel:
    if not op.whole:
        lowest = NEAREST_TO_0 if op.exponent < 0 else 0.0
        return lambda x: x.clamp(min=lowest) ** op.exponent
    if op.exponent > 0:
        return lambda x: x**op.exponent
    return lambda x: torch.where(x.abs() < NEAREST_TO_0, NEAREST_TO_0, x) ** op.exponent
