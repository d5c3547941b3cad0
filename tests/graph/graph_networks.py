"""Small networks of the families edgeq takes, with random weights and batch-norm statistics that matter."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.model.load import import_torchvision


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Eval mode, and no batch norm left at zero mean, unit variance and identity, where a wrong fold would not show."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and part.running_mean is not None:
            part.running_mean.normal_(0, 0.3, generator=generator)
            part.running_var.uniform_(0.3, 2.0, generator=generator)
            if part.affine:
                part.weight.data.uniform_(0.5, 1.5, generator=generator)
                part.bias.data.normal_(0, 0.3, generator=generator)
    return module.eval()


class PaddedShortcut(nn.Module):
    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra), "constant", 0)


class CifarBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential() if stride == 1 else PaddedShortcut((outputs - inputs) // 2)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


def cifar_resnet20() -> nn.Module:
    """Option A shortcuts; flattened by a view whose batch is read from the input."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn = nn.BatchNorm2d(16)
            plan = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
            self.blocks = nn.Sequential(*(CifarBlock(*row) for row in plan))
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            out = self.blocks(F.relu(self.bn(self.stem(x))))
            out = F.avg_pool2d(out, out.size()[3])
            return self.linear(out.view(out.size(0), -1))

    return Net()


def mobilenet_v1_leaky() -> nn.Module:
    def unit(i: int, o: int, k: int, s: int, g: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True)]

    def separable(i: int, o: int, s: int) -> nn.Sequential:
        return nn.Sequential(*unit(i, i, 3, s, i), *unit(i, o, 1, 1))

    stages = [separable(8, 16, 1), separable(16, 32, 2), separable(32, 32, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10)]
    return nn.Sequential(nn.Sequential(*unit(3, 8, 3, 2)), *stages, *head)


class SameConv(nn.Module):
    """A convolution padded as TensorFlow's SAME: the odd row and column at the bottom and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: bool = True) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size in (x.shape[3], x.shape[2]):
            total = max(0, (-(-size // self.stride) - 1) * self.stride + self.kernel - size)
            sides += [total // 2, total - total // 2]
        return self.bn(self.conv(F.pad(x, sides)))


def resnet8_same() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = SameConv(3, 16, 3, 1)
            self.b1a, self.b1b = SameConv(16, 16, 3, 1), SameConv(16, 16, 3, 1)
            self.b2a, self.b2b, self.b2s = SameConv(16, 32, 3, 2), SameConv(32, 32, 3, 1), SameConv(16, 32, 1, 2, False)
            self.fc = nn.Linear(32, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.stem(x))
            x = torch.relu(x + self.b1b(torch.relu(self.b1a(x))))
            x = torch.relu(self.b2s(x) + self.b2b(torch.relu(self.b2a(x))))
            return self.fc(x.mean([2, 3]))

    return Net()


def from_torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: import_torchvision().models.get_model(name, weights=None)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "resnet18": (from_torchvision("resnet18"), (3, 48, 40)),
    "mobilenet_v2": (from_torchvision("mobilenet_v2"), (3, 48, 40)),
    "squeezenet1_1": (from_torchvision("squeezenet1_1"), (3, 48, 42)),
    "cifar_resnet20": (cifar_resnet20, (3, 32, 32)),
    "mobilenet_v1_leaky": (mobilenet_v1_leaky, (3, 30, 32)),
    "resnet8_same": (resnet8_same, (3, 32, 31)),
}
"""Name -> (factory, input shape); sizes are odd somewhere so that rounding and asymmetric padding take part."""


class Network(NamedTuple):
    module: nn.Module
    graph: Graph
    shape: tuple[int, ...]


@cache
def captured(name: str) -> Network:
    """The network and its graph, made once for all tests; nothing changes either."""
    torch.manual_seed(0)
    factory, shape = NETWORKS[name]
    module = settled(factory())
    return Network(module, capture(module, shape, name), shape)


def same(module: nn.Module, graph: Graph, shape: tuple[int, ...], batch: int = 3) -> None:
    """The graph run in torch gives what the module gives, to 1e-4 of its largest value, at another batch size."""
    x = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        expected, got = module(x.clone()), GraphModule(graph)(x)
    close(got, expected)


def close(got: object, expected: Tensor) -> None:
    """Equal to 1e-4 of the largest value."""
    assert isinstance(got, Tensor)
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))
