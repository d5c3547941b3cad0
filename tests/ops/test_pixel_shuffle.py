"""Sub-pixel convolution: one DEPTH_TO_SPACE in TFLite, torch's values, exact integers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.ops.formats import both_formats

SHAPE = (3, 6, 5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("r", "tail", "moves"),
    [
        (2, [nn.PixelShuffle(2)], {"DEPTH_TO_SPACE": 1}),
        (3, [nn.ReLU(), nn.PixelShuffle(3)], {"DEPTH_TO_SPACE": 1}),
        (2, [nn.MaxPool2d(1, 1), nn.PixelShuffle(2)], {"TRANSPOSE": 1}),
    ],
    ids=["alone", "behind a relu", "behind what is no convolution"],
)
def test_sub_pixel_convolution(r: int, tail: list[nn.Module], moves: dict[str, int], bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4 * r * r, 3, padding=1, bias=bias), *tail).eval()
    kinds = both_formats(module, SHAPE)
    assert {k: kinds[k] for k in ("DEPTH_TO_SPACE", "TRANSPOSE") if k in kinds} == moves
