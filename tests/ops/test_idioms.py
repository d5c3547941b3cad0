"""What people write in forward, one idiom each, in every file: as torch has it before integers, exact after."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.ops import Concat, Slice
from edgeq.graph.passes import optimize
from tests.ops.sweep import Case, Network, Step
from tests.ops.sweep_check import check

Body = Callable[[Tensor], Tensor]
PICTURE, ROW, VECTOR, VOLUME = (4, 6, 5), (4, 12), (10,), (2, 4, 5, 5)


def _whole(x: Tensor) -> Tensor:
    """The picture that four windows are of, which stand where torch has the batch."""
    return x.unflatten(0, (-1, 4))


def _weights(*shape: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1.2, math.prod(shape)).reshape(shape).to(like.dtype)


def _mask(x: Tensor) -> Tensor:
    """True at every other pixel of `x`."""
    return torch.arange(x[0, 0].numel()).reshape(x.shape[2:]) % 2 == 0


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3, 2:] = x[:, :2, 2:].tanh()
    y[:, :, 0] = 0.5 * x[:, :, 1]
    return y


IDIOMS: dict[str, tuple[tuple[int, ...], Body]] = {
    "channels in another order": (PICTURE, lambda x: x[:, [2, 1, 0]]),
    "columns in another order": (PICTURE, lambda x: x[:, :, :, [0, 3, 2]]),
    "flipped": (PICTURE, lambda x: x.flip((1, 3))),
    "stacked, in another dimension": (PICTURE, lambda x: torch.stack([x, x.tanh()], 2).flatten(1, 2)),
    "stacked rows": (VECTOR, lambda x: torch.stack([x, x.tanh()], 1)),
    "stacked along the batch and added": (PICTURE, lambda x: torch.stack([x, x.tanh(), 0.3 * x]).sum(0)),
    "stacked along the batch and averaged": (PICTURE, lambda x: torch.stack([x, x.tanh()]).mean(0)),
    "stacked along the batch, the largest": (PICTURE, lambda x: torch.stack([x, x.tanh()]).amax(0)),
    "stacked along the batch and weighted": (VECTOR, lambda x: torch.stack([x, x.tanh()]).mul(0.5).sum(0)),
    "six dimensions, padded": (VOLUME, lambda x: F.pad(x.unflatten(2, (2, 2)), (1, 2)).flatten(1)),
    "six dimensions, two of them padded": (
        VOLUME,
        lambda x: F.pad(x.unflatten(2, (2, 2)), (0, 1, 0, 0, 1, 0)).flatten(1),
    ),
    "six dimensions, cut": (VOLUME, lambda x: x.unflatten(2, (2, 2))[:, :, :, 1:, :, 1:4].flatten(1)),
    "repeated": (PICTURE, lambda x: x[:, :1].repeat(1, 3, 1, 2)),
    "expanded": (PICTURE, lambda x: x[:, :1].expand(-1, 3, -1, -1)),
    "expanded before a product": (PICTURE, lambda x: x.mean(1, keepdim=True).expand(-1, 4, -1, -1) * x),
    "tiled": (ROW, lambda x: x.tile((1, 1, 2))),
    "repeated one by one": (ROW, lambda x: x.repeat_interleave(3, 1)),
    "glu": (PICTURE, lambda x: F.glu(x, 1)),
    "glu of rows": (ROW, lambda x: F.glu(x, -1)),
    "square": (PICTURE, lambda x: x.square()),
    "cube": (PICTURE, lambda x: x**3),
    "fourth power": (PICTURE, lambda x: x**4),
    "sum over the map": (PICTURE, lambda x: x.sum((2, 3))),
    "sum over rows": (PICTURE, lambda x: x.sum(2, keepdim=True)),
    "sum over channels": (PICTURE, lambda x: x.sum(1, keepdim=True)),
    "sum over all": (PICTURE, lambda x: x.sum((1, 2, 3), keepdim=True)),
    "sum over positions": (ROW, lambda x: x.sum(2)),
    "sum over rows of five dimensions": ((2, 3, 2, 4), lambda x: x.sum(1).flatten(2)),
    "sum over two dimensions apart": ((2, 3, 2, 4), lambda x: x.sum((1, 3))),
    "mean over a vector": (VECTOR, lambda x: x.mean(1, keepdim=True)),
    "mean over rows and positions": (ROW, lambda x: x.mean((1, 2), keepdim=True)),
    "mean over five dimensions": ((2, 3, 4, 4), lambda x: x.mean((3, 4))),
    "largest of the map": (PICTURE, lambda x: x.amax((2, 3))),
    "largest of columns": (PICTURE, lambda x: x.max(3)[0]),
    "smallest of the map": (PICTURE, lambda x: x.amin((2, 3))),
    "largest of channels": (PICTURE, lambda x: x.max(1, keepdim=True)[0]),
    "largest and mean of channels": (
        PICTURE,
        lambda x: torch.cat([x.max(1, keepdim=True)[0], x.mean(1, keepdim=True)], 1),
    ),
    "largest of positions": (ROW, lambda x: x.max(2)[0]),
    "largest of rows": (ROW, lambda x: x.amax(1)),
    "maxout": (PICTURE, lambda x: x.unflatten(1, (2, 2)).max(2)[0]),
    "larger of two": (PICTURE, lambda x: torch.maximum(x, x.sigmoid())),
    "larger of two shapes": (PICTURE, lambda x: torch.max(x, x.mean((2, 3), keepdim=True))),
    "smaller of two": (PICTURE, lambda x: torch.minimum(x, 0.5 * x)),
    "fifth power": (PICTURE, lambda x: x**5),
    "absolute values": (PICTURE, lambda x: x.abs()),
    "ratio": (PICTURE, lambda x: x / (x.sigmoid() + 0.5)),
    "ratio to channels": (PICTURE, lambda x: x.sigmoid() / (0.1 + x.square().sum(1, keepdim=True))),
    "number by value": (PICTURE, lambda x: 2 / (1 + x.exp())),
    "logarithm of two": (PICTURE, lambda x: (x.sigmoid() + 1).log2()),
    "soft shrinking": (PICTURE, lambda x: F.softshrink(x, 0.3)),
    "addcdiv": (PICTURE, lambda x: torch.addcdiv(x, x, x.sigmoid() + 1, value=0.5)),
    "variance of the map": (PICTURE, lambda x: x.var((2, 3), keepdim=True)),
    "deviation of channels": (PICTURE, lambda x: x.std(1, keepdim=True, correction=0)),
    "deviation of positions": (ROW, lambda x: torch.cat([x.mean(2), x.std(2)], 1)),
    "norm of a vector": (VECTOR, lambda x: x.norm(dim=1, keepdim=True)),
    "norm of the map": (PICTURE, lambda x: torch.linalg.vector_norm(x, dim=(2, 3))),
    "norm of order 1": (PICTURE, lambda x: x.norm(p=1, dim=1, keepdim=True)),
    "normalized vector": (VECTOR, lambda x: F.normalize(x)),
    "normalized channels": (PICTURE, lambda x: F.normalize(x + 0.5, dim=1)),
    "normed pixels": (PICTURE, lambda x: x / torch.sqrt(torch.mean(x**2, 1, keepdim=True) + 0.1)),
    "log-softmax": (VECTOR, lambda x: F.log_softmax(4 * x, 1)),
    "log-softmax of channels": (PICTURE, lambda x: F.log_softmax(x, 1)),
    "log of sum of exponentials": (PICTURE, lambda x: torch.logsumexp(x, 1, keepdim=True)),
    "generalized mean": (PICTURE, lambda x: F.avg_pool2d(x.clamp(min=1e-2).pow(3), (6, 5)).pow(1 / 3)),
    "group norm of a vector": (VECTOR, lambda x: F.group_norm(x, 5)),
    "group norm of rows": (ROW, lambda x: F.group_norm(x, 2)),
    "group norm of five dimensions": ((4, 2, 3, 3), lambda x: F.group_norm(x, 2).flatten(2)),
    "instance norm of rows": (ROW, lambda x: F.instance_norm(x)),
    "norm of all of a large map": ((48, 30, 30), lambda x: F.group_norm(x, 1)),
    "addcmul": (PICTURE, lambda x: torch.addcmul(x, 0.3 * x, x.sigmoid(), value=0.5)),
    "lerp by a number": (PICTURE, lambda x: torch.lerp(x, x.tanh(), 0.25)),
    "lerp by a value": (PICTURE, lambda x: torch.lerp(x, x.tanh(), x.sigmoid())),
    "clamp to constants of one number": (PICTURE, lambda x: x.clamp(torch.tensor(-0.2), torch.tensor(0.5))),
    "patches": (PICTURE, lambda x: F.unfold(x, 2, padding=1)),
    "windows as a batch, normalized": (PICTURE, lambda x: _whole(F.normalize(x.flatten(0, 1), dim=-1))),
    "windows as a batch, the largest": (PICTURE, lambda x: _whole(x.flatten(0, 1).amax(1, keepdim=True))),
    "windows as a batch, pooled": (
        PICTURE,
        lambda x: F.max_pool2d(x.unflatten(1, (2, 2)).flatten(0, 1), 2).unflatten(0, (-1, 2)).flatten(1, 2),
    ),
    "windows as a batch, averaged": (
        PICTURE,
        lambda x: F.avg_pool2d(x.unflatten(1, (2, 2)).flatten(0, 1), 3).unflatten(0, (-1, 2)).flatten(1, 2),
    ),
    "windows as a batch, expanded": (PICTURE, lambda x: _whole(x.flatten(0, 1)[:, :1].expand(-1, 6, -1))),
    "windows as a batch, repeated": (ROW, lambda x: x.reshape(-1, 3, 4).repeat(1, 2, 1).reshape(len(x), 4, 24)),
    "windows as a batch, convolved": (
        PICTURE,
        lambda x: (
            F.conv2d(x.unflatten(1, (2, 2)).flatten(0, 1), _weights(3, 2, 3, 3, like=x), padding=1)
            .unflatten(0, (-1, 2))
            .flatten(1, 2)
        ),
    ),
    "windows as a batch, rows in another order": (PICTURE, lambda x: _whole(x.flatten(0, 1)[:, [3, 0, 1]])),
    "folded patches": (PICTURE, lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (6, 5), 3, 1, 1, 2)),
    "running sums": (ROW, lambda x: x.cumsum(1)),
    "running sums of pixels": (PICTURE, lambda x: x.cumsum(3)),
    "bicubic": (PICTURE, lambda x: F.interpolate(x, (9, 8), mode="bicubic")),
    "antialiased": (PICTURE, lambda x: F.interpolate(x, (3, 2), mode="bilinear", antialias=True)),
    "chosen by a constant mask": (PICTURE, lambda x: torch.where(_mask(x), x, x.tanh() + 0.2)),
    "filled where a mask says": (PICTURE, lambda x: x.masked_fill(_mask(x), 0.25)),
    "scores that must not be seen": (PICTURE, lambda x: x.masked_fill(_mask(x), float("-inf")).softmax(-1)),
    "scores where a mask says": (
        PICTURE,
        lambda x: torch.where(_mask(x), x, torch.tensor(-1e9).to(x.dtype)).softmax(-1),
    ),
    "written into": (PICTURE, lambda x: _written(x)),
    "convolution of volumes": (
        VOLUME,
        lambda x: F.conv3d(x, _weights(3, 2, 3, 3, 3, like=x), _weights(3, like=x), 2, 1).flatten(2),
    ),
    "convolution of volumes in groups": (
        VOLUME,
        lambda x: F.conv3d(x, _weights(4, 1, 2, 3, 1, like=x), padding=(1, 1, 0), groups=2).flatten(2),
    ),
    "convolution of frames": (VOLUME, lambda x: F.conv3d(x, _weights(3, 2, 1, 2, 2, like=x)).flatten(2)),
    "convolution over time": (
        VOLUME,
        lambda x: F.conv3d(x, _weights(3, 2, 3, 1, 1, like=x), None, (2, 1, 1), (1, 0, 0)).flatten(2),
    ),
    "pools of volumes": (VOLUME, lambda x: F.max_pool3d(x, (2, 3, 3), (1, 2, 2), (0, 1, 1)).flatten(2)),
    "means of volumes": (VOLUME, lambda x: F.avg_pool3d(x, (2, 2, 3), 1).flatten(2)),
    "mean of a volume": (VOLUME, lambda x: F.adaptive_avg_pool3d(x, 1).flatten(1)),
    "matrices by one matrix": (PICTURE, lambda x: x @ x.mean(1, keepdim=True).transpose(2, 3)),
    "one matrix by matrices": (PICTURE, lambda x: x.mean(1, keepdim=True).transpose(2, 3) @ x),
    "windows that overlap": (ROW, lambda x: x.unfold(2, 6, 3).flatten(2)),
    "windows of rows, with a rest": (PICTURE, lambda x: x.unfold(2, 3, 2).flatten(3)),
    "equal parts": (ROW, lambda x: x.unfold(2, 4, 4).flatten(1, 2)),
    "nothing joined": (PICTURE, lambda x: torch.cat([x.tanh(), torch.zeros(len(x), 0, 6, 5)], 1)),
    "pooled to one position": (ROW, lambda x: F.adaptive_avg_pool1d(x, 1)),
    "pooled to five positions": (ROW, lambda x: F.adaptive_avg_pool1d(x, 5)),
    "largest of parts of positions": (ROW, lambda x: F.adaptive_max_pool1d(x, 3)),
    "average pool of positions": (ROW, lambda x: F.avg_pool1d(x, 3, 2, 1)),
    "maximum pool of positions": (ROW, lambda x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True)),
    "nearest positions": (ROW, lambda x: F.interpolate(x, scale_factor=2)),
    "nearest-exact positions": (ROW, lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact")),
    "positions between": (ROW, lambda x: F.interpolate(x, 23, mode="linear", align_corners=True)),
    "transposed convolution of positions": (
        ROW,
        lambda x: F.conv_transpose1d(x, torch.linspace(-1, 1, 80).to(x.dtype).reshape(4, 5, 4), None, 2, 1),
    ),
}


@pytest.mark.parametrize("name", IDIOMS)
def test_idiom_is_torchs_in_every_file(name: str) -> None:
    shape, body = IDIOMS[name]
    inputs = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype(np.float32)
    check(Case(Network([Step(lambda m, x: body(x), name)]).eval(), shape, (-1.0, 1.0), inputs))


class Before(nn.Module):
    """Something done to the channels of a picture before a convolution with a border."""

    def __init__(self, channels: int, body: Body) -> None:
        super().__init__()
        self.conv, self.body = nn.Conv2d(channels, 5, 3, padding=1), body

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.body(x))


@pytest.mark.parametrize(
    ("given", "channels", "body"),
    [
        (3, 3, lambda x: x[:, [2, 1, 0]]),
        (3, 3, lambda x: x.flip(1)),
        (3, 2, lambda x: x[:, [2, 2]]),
        (1, 3, lambda x: x.repeat(1, 3, 1, 1)),
        (1, 3, lambda x: x.expand(-1, 3, -1, -1)),
        (1, 3, lambda x: torch.cat([x, x, x], 1)),
        (2, 4, lambda x: x.repeat_interleave(2, 1)),
    ],
)
def test_picked_and_repeated_channels_become_part_of_the_weights(given: int, channels: int, body: Body) -> None:
    torch.manual_seed(0)
    net = Before(channels, body).eval()
    graph = optimize(capture(net, (given, 6, 6), "net"))
    if given != 2:  # that one is repeated in a dimension of its own
        assert not list(graph.of_kind(Concat, Slice))
    inputs = np.random.default_rng(0).uniform(-1, 1, (4, given, 6, 6)).astype(np.float32)
    check(Case(Network([Step(lambda m, x: m.part(x), "net", part=net)]).eval(), (given, 6, 6), (-1.0, 1.0), inputs))


@pytest.mark.parametrize(
    ("shape", "body", "why"),
    [
        (VECTOR, lambda x: x.argmax(1), "logits"),
        (VECTOR, lambda x: x.max(1), "result 1"),
        (PICTURE, lambda x: torch.cat([x, x]), "batch"),
        (PICTURE, lambda x: x**x, "exponent"),
        (PICTURE, lambda x: torch.where(x > 0, x, 0.1 * x), "multiply with a gate"),
        (PICTURE, lambda x: torch.where(_mask(x), x, torch.full((6, 5), math.inf)), "infinity"),
        (PICTURE, lambda x: x.sign(), "tanh"),
        ((64, 8, 8), lambda x: F.conv2d(x.flatten(0, 1)[:, None], torch.ones(600, 1, 6, 6)), "64 samples"),
        (PICTURE, lambda x: torch.erf(x), "GELU"),
        (VOLUME, lambda x: F.conv_transpose3d(x, torch.ones(2, 2, 2, 2, 2)), "three dimensions"),
        ((2, 90, 90), lambda x: x.flip(3), "pieces"),
    ],
)
def test_what_is_refused_says_why(shape: tuple[int, ...], body: Body, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        capture(Network([Step(lambda m, x: body(x), "body")]).eval(), shape, "net")
