"""Memory order of activations: channels last for pictures, which convolutions on a CPU are quickest with."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["channels_last"]


def channels_last(x: Tensor) -> Tensor:
    """`x` with channels last in memory where it is ``(N, C, H, W)``, else contiguous; shape and values stay."""
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)
