"""Shuffles of channels and pixels, captured as moves; shuffles of channels as orders of filters."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from graph_networks import close, same
from torch import Tensor, nn

from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.writer import write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ops import Concat, Permute, Slice
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule


@pytest.mark.parametrize("part", [nn.PixelShuffle(2), nn.PixelUnshuffle(3), nn.ChannelShuffle(4)], ids=str)
def test_shuffles_are_torchs(part: nn.Module) -> None:
    shape = (8, 6, 9)
    graph = capture(part, shape, "shuffle")
    assert len(list(graph.of_kind(Permute))) == 1
    same(part, graph, shape)


def shuffle(x: Tensor, groups: int = 2) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unit(nn.Module):
    """ShuffleNetV2's: half of the channels pass, half go through a branch; with a stride all go through two."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half = read = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(read, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, stride, 1, groups=half),
            nn.Conv2d(half, half, 1),
        )
        self.other = nn.Conv2d(read, half, 3, 2, 1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.other is not None:
            return shuffle(torch.cat([self.other(x), F.relu(self.branch(x))], 1))
        left, right = x.chunk(2, 1)
        return shuffle(torch.cat([left, F.relu(self.branch(right))], 1))


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.units = nn.Sequential(Unit(16, 2), Unit(16, 1), Unit(16, 1), Unit(16, 1), Unit(32, 2), Unit(32, 1))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.units(F.relu(self.stem(x)))
        return self.head(x.mean((2, 3)))


def test_shufflenet_moves_nothing() -> None:
    torch.manual_seed(0)
    net, shape = Shuffled().eval(), (3, 32, 32)
    graph = optimize(capture(net, shape, "shuffled"))
    same(net, graph, shape)
    assert census(write_tflite_float(graph)).transposes == 0
    assert not list(graph.of_kind(Permute))


class Tail(nn.Module):
    """A shuffle of two convolutions' channels, and `tail` behind it."""

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.left, self.right, self.tail = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, 1, 1), tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(shuffle(torch.cat([self.left(x), F.relu(self.right(x))], 1)))


@pytest.mark.parametrize(
    ("tail", "left"),
    [
        (nn.Conv2d(8, 4, 3), 0),
        (nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1)), 0),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 64, 4)), 0),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)), 0),
        (nn.Conv2d(8, 4, 1, groups=2), 1),
        (nn.Sequential(nn.Conv2d(8, 16, 1, groups=8), nn.Conv2d(16, 2, 1)), 1),
        (nn.Sigmoid(), 1),
    ],
    ids=["dense", "depthwise", "flattened", "pooled", "grouped", "widened", "output"],
)
def test_who_takes_an_order_of_channels(tail: nn.Module, left: int) -> None:
    """A grouped layer and the network's output do not: the shuffle stays, or slices are cheaper."""
    torch.manual_seed(0)
    net, shape = Tail(tail).eval(), (3, 16, 16)
    graph = optimize(capture(net, shape, "tail"))
    same(net, graph, shape)
    assert len(list(graph.of_kind(Permute))) <= left


class Chance(nn.Module):
    """A network of joins, splits, shuffles and layers drawn by chance."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.steps, draw = [], random.Random(seed)
        self.layers = nn.ModuleList()
        widths = [4]
        for _ in range(9):
            kind = draw.choice(["conv", "depthwise", "relu", "shuffle", "shuffle", "cat", "cat", "slice", "add"])
            a, b = draw.randrange(len(widths)), draw.randrange(len(widths))
            width, start = widths[a], 0
            if kind == "conv":
                width = draw.choice([4, 8])
                self.layers.append(nn.Conv2d(widths[a], width, 1))
            elif kind == "depthwise":
                self.layers.append(nn.Conv2d(width, width, 3, 1, 1, groups=width))
            elif kind == "cat":
                width += widths[b]
            elif kind == "slice":
                start, width = draw.randrange(2) * (width // 2), width // 2 if width % 4 == 0 else width
            elif kind == "add" and widths[b] != width:
                kind = "relu"
            self.steps.append((kind, a, b, start, len(self.layers) - 1))
            widths.append(width)
        self.head = nn.Conv2d(sum(widths[-3:]), 3, 1)
        self.raw = draw.random() < 0.3

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values = [x]
        for kind, a, b, start, layer in self.steps:
            value = values[a]
            if kind in ("conv", "depthwise"):
                value = self.layers[layer](value)
            elif kind == "shuffle":
                value = shuffle(value)
            elif kind == "cat":
                value = torch.cat([value, values[b]], 1)
            elif kind == "slice":
                width = value.shape[1] // 2 if value.shape[1] % 4 == 0 else value.shape[1]
                value = value[:, start : start + width] if start + width <= value.shape[1] else value[:, :width]
            elif kind == "add":
                value = value + values[b]
            else:
                value = F.relu(value)
            values.append(value)
        head = self.head(torch.cat(values[-3:], 1))
        return (head, values[-1] * 2) if self.raw else head


@pytest.mark.parametrize("seed", range(40))
def test_any_network_of_shuffles_computes_the_same(seed: int) -> None:
    torch.manual_seed(seed)
    net, shape = Chance(seed).eval(), (4, 5, 5)
    graph = optimize(capture(net, shape, "chance"))
    x = torch.randn(2, *shape)
    with torch.no_grad():
        got, expected = GraphModule(graph)(x), net(x)
    for one, other in zip(got, expected, strict=True) if net.raw else [(got, expected)]:
        close(one, other)


def test_a_shuffle_in_a_trained_order_costs_no_more_than_it_did() -> None:
    """Channels of the network's input have no other order: each would be a slice of its own."""
    net = nn.Sequential(nn.ChannelShuffle(4), nn.Conv2d(32, 4, 1, groups=2)).eval()
    graph = optimize(capture(net, (32, 6, 6), "input"))
    assert not list(graph.of_kind(Slice, Concat))
    same(net, graph, (32, 6, 6))
