"""Tensors of more dimensions than a TFLite kernel takes: written another way, or refused before there is a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgeq
from edgeq.errors import UnsupportedError


class Permuted(nn.Module):
    """A permutation of nine dimensions of which no two stay neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).reshape(1, 2, 2, 2, 2, 2, 2, 2, 2, 2)
        return y.permute(0, 9, 7, 5, 3, 1, 8, 6, 4, 2).flatten(1)


def test_a_permutation_of_nine_dimensions_is_refused_by_name(tmp_path: Path) -> None:
    model = edgeq.trace(Permuted(), (2, 16, 16), task="regression", mean=(0.5, 0.5), std=(0.5, 0.5))
    images = torch.rand(4, 2, 16, 16).numpy()
    net = edgeq.quantize(model, images)
    with pytest.raises(UnsupportedError, match=r"a permutation of 9 dimensions at .*takes 8"):
        edgeq.write(net, str(tmp_path / "net.tflite"))
