"""Ops between layers in the layers' order: what permutes and reshapes away, and that nothing else changes."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from graph_networks import close, same, settled
from torch import Tensor, nn

from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.writer import write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm, Conv2d, Permute, Reshape
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from tests.ops.formats import both_formats


class GatedBlock(nn.Module):
    """MambaOut's: linear layers on channels last, a depthwise convolution of some of them, a gate and a residual."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.channels = channels
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(2 * channels, channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        c = self.channels
        gate, passed, local = self.wide(x).split([2 * c, c, c], -1)
        local = self.conv(local.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.narrow(F.gelu(gate) * torch.cat([passed, local], -1))


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 3)
        self.blocks = nn.Sequential(GatedBlock(), GatedBlock())

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.stem(x).permute(0, 2, 3, 1), (0, 0, 1, 0, 1, 0))
        return self.head(self.blocks(x).permute(0, 3, 1, 2))


class Residual1d(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, channels, 3, padding=2), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x))[:, :, :-2] + x)


class Temporal(nn.Module):
    """A picture of one channel taken for a signal of many."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(5, 8, 3, padding=1), Residual1d(8), Residual1d(8))
        self.gate, self.head = nn.Conv1d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.squeeze(1))
        x = x * torch.sigmoid(self.gate(x.mean(2, keepdim=True)))
        return self.head(x.mean(2))


def optimized(net: nn.Module, shape: tuple[int, ...]) -> Graph:
    torch.manual_seed(0)
    graph = optimize(capture(net.eval(), shape, "net"))
    same(net, graph, shape)
    return graph


def test_channels_last_between_convolutions() -> None:
    graph = optimized(ChannelsLast(), (3, 10, 9))
    assert not list(graph.of_kind(Permute, Reshape))


def test_signals_are_rows_of_pictures_throughout() -> None:
    """What is left turns the input, which torch has channel by channel, and flattens for the last layer."""
    graph = optimized(settled(Temporal()), (1, 5, 24))
    assert not list(graph.of_kind(Permute, BatchNorm))
    assert not [node for node in graph.of_kind(Conv2d) if node.op.groups > 1]
    assert len(list(graph.of_kind(Reshape))) == 2
    assert census(write_tflite_float(graph)).transposes == 1


@pytest.mark.parametrize(("net", "shape"), [(ChannelsLast(), (3, 10, 9)), (settled(Temporal()), (1, 5, 24))], ids=str)
def test_integers_are_exact(net: nn.Module, shape: tuple[int, int, int]) -> None:
    kinds = both_formats(net.eval(), shape)
    assert kinds.get("TRANSPOSE", 0) == (shape[0] == 1)


def test_an_output_keeps_its_order() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            last = torch.tanh(self.conv(x).permute(0, 2, 3, 1)[:, :, 1:] * 2)
            return last, self.conv(torch.cat([last, last[..., :2]], 3).permute(0, 3, 1, 2)[:, :3])

    net, x = Net().eval(), torch.randn(2, 3, 9, 8)
    graph = optimize(capture(net, (3, 9, 8), "net"))
    assert graph.shapes[graph.outputs[0]] == (1, 7, 5, 4)
    with torch.no_grad():
        for got, expected in zip(GraphModule(graph)(x), net(x), strict=True):
            close(got, expected)


class Chance(nn.Module):
    """Convolutions, permutations, reshapes and indifferent ops drawn by chance."""

    KINDS = ("permute", "permute", "conv", "conv", "squeeze", "relu", "add", "mul", "cat", "slice", "pad", "bn")

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.convs = nn.ModuleList(nn.Conv2d(c, 4, (1, 1)) for c in range(1, 40))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in range(1, 40))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        draw, values = random.Random(self.seed), [x]
        for _ in range(12):
            kind, value = draw.choice(self.KINDS), draw.choice(values[-3:])
            others = [v for v in values[-4:] if v.shape == value.shape]
            if kind == "permute":
                order = [1, 2, 3]
                draw.shuffle(order)
                value = value.permute(0, *order) if value.ndim == 4 else value.transpose(1, 2)
            elif kind in ("conv", "bn") and value.ndim == 4 and value.shape[1] < 40:
                value = (self.convs if kind == "conv" else self.norms)[value.shape[1] - 1](value)
            elif kind == "squeeze":
                value = value[:, :, :1].squeeze(2) if value.ndim == 4 else value.unsqueeze(draw.choice([1, 2, 3]))
            elif kind == "add":
                value = value + draw.choice(others)
            elif kind == "mul":
                value = value * draw.choice(others).mean(-1, keepdim=True).sigmoid() if value.ndim == 4 else -value
            elif kind == "cat":
                value = torch.cat([value, draw.choice(others)], draw.randrange(1, value.ndim))
            elif kind == "slice":
                axis = draw.randrange(1, value.ndim)
                value = value.narrow(axis, 0, max(1, value.shape[axis] - 1))
            elif kind == "pad":
                value = F.pad(value, (1, 0) if value.ndim == 3 else (0, 1, 1, 0))
            else:
                value = value.relu()
            values.append(value)
        return values[-1], values[-2] * 2


@pytest.mark.parametrize("seed", range(16))
def test_any_network_computes_the_same(seed: int) -> None:
    torch.manual_seed(seed)
    net, shape = settled(Chance(seed)), (2, 3, 4)
    graph = optimize(capture(net, shape, "chance"))
    x = torch.randn(2, *shape)
    with torch.no_grad():
        for got, expected in zip(GraphModule(graph)(x), net(x), strict=True):
            close(got, expected)
