"""Networks as people bring them: factories by name, and in `OUTCOMES` what becomes of each.

An outcome is None where the network is captured, which includes that the graph answers as the network does; else a
part of the one line with which it is refused.
"""

from __future__ import annotations

import random
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Forward = Callable[["Net", Tensor], Any]


class Net(nn.Module):
    """A convolution of 3 to 8 channels, and what the case is about."""

    def __init__(self, body: Forward, **parts: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)
        for name, part in parts.items():
            if isinstance(part, Tensor):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def pooled(body: Callable[[Net, Tensor], Tensor], **parts: Any) -> Net:
    """A classifier with `body` between its convolution and its pooling."""
    return Net(lambda s, x: s.fc(body(s, s.conv(x)).mean((2, 3))), **parts)


class Both(nn.Module):
    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        return image + other


class Keyword(nn.Module):
    def forward(self, image: Tensor, *, scale: float) -> Tensor:
        return image * scale


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x).flatten(1) * self.calls


class Blocks(nn.Module):
    """In training form whatever it is told."""

    def eval(self) -> nn.Module:
        raise RuntimeError("this network only trains")


class Rounds(nn.Module):
    """A batch norm that keeps no statistics, in a network that is a loop over one shared module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = F.relu(self.norm(self.conv(x)))
        return x.mean((2, 3))


@dataclass
class Record:
    scores: Tensor


Pair = namedtuple("Pair", "left right")


def drawing(*bodies: Callable[[Net, Tensor], Tensor]) -> Net:
    """One network of several bodies, each called on the same activation at a place of its own, `parts.0` and so on."""
    parts = [Net(body, scale=torch.full((8, 1, 1), 0.5)) for body in bodies]
    return Net(lambda s, x: tuple(part(s.conv(x)) for part in s.parts), parts=nn.ModuleList(parts))


def quantized() -> nn.Module:
    net = pooled(lambda s, y: y)
    net.fc.weight = nn.Parameter(net.fc.weight.detach().to_sparse(), requires_grad=False)
    return net


def complex_weights() -> nn.Module:
    return pooled(lambda s, y: y, phase=torch.ones(8, 1, 1, dtype=torch.complex64))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()))


def traced() -> nn.Module:
    return torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()).eval(), torch.rand(1, 3, 8, 8))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())


def fails() -> nn.Module:
    raise RuntimeError("no such layer")


def exits() -> nn.Module:
    raise SystemExit(3)


MASK = torch.tensor([True, False] * 4)
GRID = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 8, 8, 8)

RANDOM = {
    "rand": lambda s, y: y + torch.rand(1, 8, 1, 1),
    "randn": lambda s, y: y + torch.randn(1, 8, 1, 1),
    "randint": lambda s, y: y + torch.randint(0, 5, (1, 8, 1, 1)),
    "randperm": lambda s, y: y + torch.randperm(8).view(1, 8, 1, 1),
    "rand_like": lambda s, y: y + torch.rand_like(y),
    "randn_like": lambda s, y: y + torch.randn_like(s.scale),
    "normal": lambda s, y: y + torch.normal(s.scale, 1.0),
    "bernoulli": lambda s, y: y * torch.bernoulli(s.scale),
    "bernoulli in place": lambda s, y: y * torch.empty_like(s.scale).bernoulli_(0.5),
    "uniform": lambda s, y: y * torch.empty(8, 1, 1).uniform_(0, 1),
    "exponential": lambda s, y: y * torch.ones(8, 1, 1).exponential_(),
    "multinomial": lambda s, y: y + torch.multinomial(s.scale.view(1, 8), 8).view(1, 8, 1, 1),
    "poisson": lambda s, y: y * torch.poisson(s.scale),
    "dropout of a constant": lambda s, y: y * F.dropout(s.scale, 0.5),
    "dropout": lambda s, y: F.dropout(y, 0.5),
    "dropout2d": lambda s, y: F.dropout2d(y, 0.5),
    "alpha_dropout": lambda s, y: F.alpha_dropout(y, 0.5, training=True),
    "rrelu": lambda s, y: F.rrelu(y, training=True),
}
"""Bodies that draw random numbers in calls of torch's program; `drawing` makes a network of them."""

SILENT = {
    "python's random": lambda s, y: y + random.random(),
    "numpy's random": lambda s, y: y + float(np.random.rand()),
    "a clock": lambda s, y: y * (time.perf_counter() % 1e-3),
}

FACTORIES: dict[str, tuple[Callable[[], Any], tuple[int, int, int], str | None]] = {
    "random: rand": (lambda: pooled(RANDOM["rand"]), (3, 8, 8), "random numbers"),
    **{
        f"random: {name}": (lambda body=body: pooled(body), (3, 8, 8), "answers one image in two ways")
        for name, body in SILENT.items()
    },
    "random, unread": (lambda: pooled(lambda s, y: (torch.rand(1), y)[1]), (3, 8, 8), None),
    "empty memory": (lambda: pooled(lambda s, y: y + torch.empty(1, 8, 1, 1)), (3, 8, 8), "uninitialised memory"),
    "empty memory, filled": (lambda: pooled(lambda s, y: y + torch.empty(1, 8, 1, 1).fill_(2)), (3, 8, 8), None),
    "a counter": (Counts, (3, 8, 8), "changes its own state"),
    "type_as": (lambda: pooled(lambda s, y: y * s.scale.type_as(y), scale=torch.rand(8, 1, 1)), (3, 8, 8), None),
    "type_as of integers": (
        lambda: pooled(lambda s, y: y * s.scale.type_as(y), scale=torch.arange(8).view(8, 1, 1)),
        (3, 8, 8),
        None,
    ),
    "to of another": (
        lambda: pooled(lambda s, y: y * s.scale.to(y), scale=torch.rand(8, 1, 1).double()),
        (3, 8, 8),
        None,
    ),
    "new_tensor": (lambda: pooled(lambda s, y: y + y.new_full((1, 8, 1, 1), 2.0) + y.new_ones(1)), (3, 8, 8), None),
    "zeros_like": (lambda: pooled(lambda s, y: y + torch.zeros_like(y[:, :, :1, :1])), (3, 8, 8), None),
    "expand_as": (
        lambda: pooled(lambda s, y: y * s.scale.expand_as(y), scale=torch.rand(8, 1, 1)),
        (3, 8, 8),
        "",
    ),
    "a grid of constants": (
        lambda: pooled(lambda s, y: y + s.grid, grid=GRID.clone()),
        (3, 8, 8),
        "",
    ),
    "meshgrid": (
        lambda: pooled(
            lambda s, y: (
                y
                * torch.stack(torch.meshgrid(torch.arange(2.0), torch.arange(4.0), indexing="ij"))
                .sum(0)
                .view(1, 8, 1, 1)
            )
        ),
        (3, 8, 8),
        None,
    ),
    "one minus a sigmoid": (lambda: Net(lambda s, x: 1 - torch.sigmoid(s.fc(s.conv(x).mean((2, 3))))), (3, 8, 8), None),
    "index by booleans": (
        lambda: Net(lambda s, x: s.conv(x)[:, MASK].mean((2, 3))),
        (3, 8, 8),
        "a shape that depends on values",
    ),
    "index by numbers": (lambda: Net(lambda s, x: s.conv(x)[:, [0, 1, 6, 3]].mean((2, 3))), (3, 8, 8), None),
    "index_select": (
        lambda: Net(lambda s, x: s.conv(x).index_select(3, torch.tensor([7, 6])).mean((2, 3))),
        (3, 8, 8),
        None,
    ),
    "index by values": (lambda: pooled(lambda s, y: y * y[y > 0].sum()), (3, 8, 8), "not supported"),
    "a branch on values": (lambda: pooled(lambda s, y: y if y.sum() > 0 else -y), (3, 8, 8), "cannot be traced"),
    "a huge constant": (lambda: pooled(lambda s, y: y + torch.ones(2**26, 2).sum()), (3, 8, 8), "makes a constant of"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 8), nn.Flatten()), (3, 8, 8), "lazy layers"),
    "lazy linear": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), (3, 8, 8), "lazy layers"),
    "scripted": (scripted, (3, 8, 8), "TorchScript program"),
    "traced": (traced, (3, 8, 8), "TorchScript program"),
    "on the meta device": (on_meta, (3, 8, 8), "its device is meta"),
    "sparse weights": (quantized, (3, 8, 8), "sparse"),
    "complex weights": (complex_weights, (3, 8, 8), "complex64 weights"),
    "half": (lambda: pooled(lambda s, y: y).half(), (3, 8, 8), None),
    "bfloat16": (lambda: pooled(lambda s, y: y).bfloat16(), (3, 8, 8), None),
    "double": (lambda: pooled(lambda s, y: y).double(), (3, 8, 8), None),
    "two inputs": (Both, (3, 8, 8), "does not take one image alone"),
    "a keyword": (Keyword, (3, 8, 8), "does not take one image alone"),
    "no forward": (nn.Module, (3, 8, 8), "cannot take an input"),
    "a factory that fails": (fails, (3, 8, 8), "no such layer"),
    "a factory that exits": (exits, (3, 8, 8), "SystemExit"),
    "no network": (lambda: None, (3, 8, 8), "returned NoneType"),
    "two networks": (lambda: (nn.Identity(), nn.Identity()), (3, 8, 8), "returned tuple"),
    "a class": (lambda: nn.Identity, (3, 8, 8), "returned the class Identity"),
    "a network that only trains": (Blocks, (3, 8, 8), "only trains"),
    "a dictionary": (lambda: Net(lambda s, x: {"y": s.conv(x)}), (3, 8, 8), None),
    "a list": (lambda: Net(lambda s, x: [s.conv(x), [s.conv(x)]]), (3, 8, 8), None),
    "a named tuple": (lambda: Net(lambda s, x: Pair(s.conv(x), s.conv(x))), (3, 8, 8), None),
    "a data class": (lambda: Net(lambda s, x: Record(s.conv(x))), (3, 8, 8), None),
    "nothing": (lambda: Net(lambda s, x: None), (3, 8, 8), "returns nothing"),
    "a number": (lambda: Net(lambda s, x: 3), (3, 8, 8), "no output depends"),
    "a scalar": (lambda: Net(lambda s, x: s.conv(x).mean()), (3, 8, 8), ""),
    "an empty tensor": (lambda: Net(lambda s, x: s.conv(x).mean((2, 3))[:, :0]), (3, 8, 8), "cannot take"),
    "integers": (lambda: Net(lambda s, x: s.conv(x).mean((2, 3)).long()), (3, 8, 8), ""),
    "complex numbers": (lambda: Net(lambda s, x: torch.fft.fft(s.conv(x).mean((2, 3)))), (3, 8, 8), "not supported"),
    "a constant": (lambda: Net(lambda s, x: s.fc.bias.view(1, 4)), (3, 8, 8), "no output depends on the input"),
    "its input": (lambda: nn.Flatten(), (4, 1, 1), None),
    "in place on its input": (lambda: Net(lambda s, x: s.fc(s.conv(x.mul_(2)).mean((2, 3)))), (3, 8, 8), None),
    "unread weights": (lambda: pooled(lambda s, y: y, spare=nn.Linear(5, 5)), (3, 8, 8), None),
    "one module thrice": (Rounds, (3, 8, 8), None),
    "no parameters": (lambda: nn.Sequential(nn.AvgPool2d(8), nn.Flatten()), (3, 8, 8), None),
    "one channel": (lambda: nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()), (1, 8, 8), None),
    "two channels": (lambda: nn.Sequential(nn.Conv2d(2, 4, 8), nn.Flatten()), (2, 8, 8), None),
    "forty channels": (lambda: nn.Sequential(nn.Conv2d(40, 4, (1, 8)), nn.Flatten()), (40, 1, 8), None),
    "a reshape that moves the batch": (
        lambda: Net(lambda s, x: s.conv(x).view(8, -1).mean(1).view(1, 8)),
        (3, 8, 8),
        "",
    ),
    "no gradients inside": (lambda: Net(lambda s, x: s.fc(_frozen(s.conv, x).mean((2, 3)))), (3, 8, 8), ""),
    "integers inside": (lambda: pooled(lambda s, y: y * (y > 0)), (3, 8, 8), "not supported"),
    "cast to integers": (lambda: pooled(lambda s, y: y.int().float()), (3, 8, 8), "casts to torch.int32"),
    "another's kind of integers": (lambda: pooled(lambda s, y: y.type_as(MASK).float()), (3, 8, 8), "torch.bool"),
}
"""Name -> factory, input shape, and the outcome; "" where the network may be captured or refused by torch's release."""


@torch.no_grad()
def _frozen(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x)
