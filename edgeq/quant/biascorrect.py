"""Empirical bias correction: add to the biases what rounding weights and activations takes away on average.

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
"""How many images judge a correction."""
AT_ONCE = 2**15
"""How many values are summed at a time."""


def bias_correction(want: Tensor, have: Tensor, clamp: Clamp | None, *, judged: bool) -> Tensor:
    """Compute what to add to a layer's bias, ``(C,)``.

    `want` are its results ``(N, C, ...)`` in float, `have` those with quantized weights and inputs, both before the
    activation `clamp`.

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
    """Mean of each channel, ``(C,)``, summed in float64: by blocks that stay in the cache, which takes a third."""
    rows = value.movedim(1, -1).reshape(-1, value.shape[1])
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for block in torch.split(rows, max(1, AT_ONCE // rows.shape[1])):
        total += block.sum(0, dtype=torch.float64)
    return (total / len(rows)).to(torch.float32)
