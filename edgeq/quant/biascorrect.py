"""Empirical bias correction: what rounding the weights and activations shifts on average, added back to the biases.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with the
expectation taken over the calibration set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeq.graph.ops import Clamp

__all__ = ["bias_correction"]

JUDGES = 8
"""Images on which a correction is judged."""


def bias_correction(want: Tensor, have: Tensor, clamp: Clamp | None, *, judged: bool) -> Tensor:
    """What to add to a layer's bias ``(C,)``, given its results ``(N, C, ...)`` in float and on integers' grids, before
    the activation `clamp`.

    `judged` drops a channel's correction where it would raise the squared error behind the activation on the first
    `JUDGES` images. At 8 bits the means are close and matching them helps; below, a mean carried by values that a ReLU
    cuts off anyway can drag the rest along.
    """
    shift = _channel_mean(want) - _channel_mean(have)
    return shift * _helps(want[:JUDGES], have[:JUDGES], shift, clamp) if judged else shift


def _helps(want: Tensor, have: Tensor, shift: Tensor, clamp: Clamp | None) -> Tensor:
    """1 for channels whose squared error behind the activation `shift` lowers, 0 for the others, ``(C,)``."""
    shape = (1, -1, *([1] * (have.dim() - 2)))
    low, high = (clamp.minimum, clamp.maximum) if clamp else (-math.inf, math.inf)
    want = want.clamp(low, high)
    before, after = (_channel_mean((v.clamp(low, high) - want).square()) for v in (have, have + shift.view(shape)))
    return (after < before).to(shift.dtype)


def _channel_mean(value: Tensor) -> Tensor:
    return value.double().mean([0, *range(2, value.dim())]).to(torch.float32)
