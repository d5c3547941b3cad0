"""What repeats or slides over something else than pixels: expanded gates, convolutions over channels, odd borders."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.ops import Concat, Resize2d
from edgeq.graph.passes import optimize
from tests.ops.formats import Forward, both_formats


class ChannelAttention(nn.Module):
    """ECA: a convolution along the channels' means decides what each channel is worth (as timm writes it)."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3)).view(x.shape[0], 1, -1)).sigmoid()
        return x * y.view(x.shape[0], -1, 1, 1).expand_as(x)


class Rows(nn.Module):
    """Pixels in a row, slid over by one-dimensional convolutions."""

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 4, 3, **arguments)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.flatten(2))


def test_channel_attention() -> None:
    torch.manual_seed(0)
    kinds = both_formats(ChannelAttention(3), (8, 6, 5))
    assert set(kinds) == {"MEAN", "CONV_2D", "LOGISTIC", "MUL", "RESHAPE"}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": "same"}, {"groups": 2, "padding": 2, "bias": False}],
    ids=str,
)
def test_convolutions_of_one_dimension(arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    both_formats(Rows(**arguments), (6, 4, 5))


@pytest.mark.parametrize("combine", [torch.mul, torch.add], ids=["product", "sum"])
@pytest.mark.parametrize("first", [True, False])
def test_a_repeated_pixel_is_not_written_out(combine, first: bool) -> None:  # type: ignore[no-untyped-def]
    def function(x: Tensor) -> Tensor:
        pixel = F.adaptive_avg_pool2d(x, 1).expand(-1, -1, 6, 5)
        return combine(pixel, x) if first else combine(x, pixel)  # type: ignore[no-any-return]

    assert not list(optimize(capture(Forward(function), (4, 6, 5), "net")).of_kind(Resize2d))
    both_formats(function, (4, 6, 5))


def test_a_repeated_pixel_that_is_joined_is_written_out() -> None:
    kinds = both_formats(lambda x: torch.cat([x, F.adaptive_avg_pool2d(x, 1).expand_as(x)], 1), (4, 6, 5))
    assert kinds["RESIZE_NEAREST_NEIGHBOR"] == 1


def test_a_repeated_channel_is_not_written_out() -> None:
    function = Forward(lambda x: x * x.mean(1, keepdim=True).expand_as(x))
    assert not list(optimize(capture(function, (4, 6, 5), "net")).of_kind(Concat))


def test_a_map_repeated_too_often_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"repeats \[1, 1, 6, 5\] 5000 times.*repeat by themselves"):
        capture(Forward(lambda x: x.mean(1, keepdim=True).expand(-1, 5000, -1, -1)), (4, 6, 5), "net")


@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 1, 1, 1), (2, 0, 1, 2)])
def test_a_max_pool_padded_by_minus_infinity(sides: tuple[int, int, int, int]) -> None:
    """TensorFlow's SAME as timm and others write it; values on both sides of 0, so that zeros would show."""
    kinds = both_formats(lambda x: F.max_pool2d(F.pad(x, sides, value=float("-inf")), 3, 2), (4, 8, 8))
    assert set(kinds) <= {"MAX_POOL_2D", "REVERSE_V2", "PAD", "PADV2"}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.pad(x, (1, 1, 1, 1), value=float("-inf")).clamp(-1, 1),
        lambda x: F.max_pool2d(F.pad(x, (3, 0, 0, 0), value=float("-inf")), 3, 2),
    ],
    ids=["no pool behind it", "windows of padding alone"],
)
def test_minus_infinity_elsewhere_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnsupportedError, match="minus infinity"):
        optimize(capture(Forward(function), (4, 8, 8), "net"))
