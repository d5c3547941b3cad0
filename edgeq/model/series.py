"""Networks of series, ``(N, C, L)``: they become networks of pictures one row high, which all that follows knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.model.pycode import aside
from edgeq.model.spec import ModelSpec, is_series

__all__ = ["Series", "as_network_of_pictures"]


class Series(nn.Module):
    """A network of series ``(N, C, L)`` as one of pictures that are one row high, ``(N, C, 1, L)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x.squeeze(2))


def as_network_of_pictures(module: nn.Module, spec: ModelSpec) -> nn.Module:
    """`module`, or that of its series where it takes no pictures of this shape but series of it."""
    if not is_series(spec.input_shape) or _takes(module, spec.input_shape):
        return module
    channels, _, length = spec.input_shape
    return Series(module).eval() if _takes(module, (channels, length)) else module


def _takes(module: nn.Module, shape: Sequence[int]) -> bool:
    try:
        with torch.no_grad(), aside():
            module(torch.zeros(1, *shape))
    except (Exception, SystemExit):  # whatever the user's forward raises
        return False
    return True
