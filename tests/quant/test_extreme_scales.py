"""Layers and ops at the ends of what scales can be: every runtime opens the files, and they compute the float network.

Dead layers, zero weights, weights from denormal to huge, batch norms of no variance, constant outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.session import KERNELS, LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import Frozen, freeze
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST

RANGE = (-2.0, 2.0)
SHAPE = (3, 8, 8)
Array = npt.NDArray[np.float32]


def pictures(count: int = 8, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> CalibrationSet:
    inputs = np.random.default_rng(seed).uniform(*RANGE, (count, *shape)).astype(np.float32)
    return CalibrationSet(inputs, np.full(count, -1, np.int64), "uniform")


def frozen(network: nn.Module, images: CalibrationSet, bits: str = "w8a8") -> tuple[Graph, Frozen]:
    graph = optimize(capture(network.eval(), images.inputs.shape[1:], "net"))
    scheme = Scheme.of(bits, widest=WIDEST)
    return graph, freeze(graph, calibrate(graph, images, RANGE, scheme=scheme))


def sqnr(want: Array, got: Array) -> float:
    """In dB; infinite where both are equal."""
    error, power = (float(np.square(values.astype(np.float64)).sum()) for values in (want - got, want))
    return 10 * np.log10(power / error) if power and error else (-np.inf if error else np.inf)


class SideBySide(nn.Module):
    """One input, and the answer of each part to it: a file of twenty parts takes about as long as one of one."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


@torch.no_grad()
def check(parts: Mapping[str, nn.Module], least: Mapping[str, float] | None = None) -> None:
    """Both formats and all kernels: exact or within a step, and each part is 25 dB (or its `least`) from the float
    network, or a step of a grid that its values fill."""
    images = pictures()
    graph, made = frozen(SideBySide(parts.values()), images)
    integer, inputs = made.graph, images.inputs[:2]
    wanted = [value.numpy() for value in GraphModule(graph)(torch.from_numpy(inputs))]
    data = write_tflite(integer)
    found = verify_tflite(integer, data, inputs)
    assert found.exact, found.first_difference
    answers = [(name, LiteRTSession(data, kernels=name).run(inputs)) for name in KERNELS]
    for activations in ("uint8", "int8"):
        data = write_onnx(integer, activations=activations)
        near = verify_onnx(integer, data, inputs, activations)
        assert near.max_step <= 1, near.first_difference
        answers.append((activations, OrtSession(data).run(inputs)))
    for name, outputs in answers:
        for part, end, want, got in zip(parts, integer.outputs, wanted, outputs, strict=True):
            step = float(integer.quantizations[end].scale)
            fills = step <= max(np.abs(want).max() / 100, 1e-6 if not want.any() else 0.0)
            far = (least or {}).get(part, 25)
            assert (fills and np.abs(got - want).max() <= 1.01 * step) or sqnr(want, got) >= far, (name, part)


class Layer(nn.Module):
    """A convolution, a layer under test, a ReLU, a convolution."""

    def __init__(self, kind: str, change: Callable[[nn.Module], None]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        kinds = {
            "conv": nn.Conv2d(8, 8, 1),
            "depthwise": nn.Conv2d(8, 8, 3, padding=1, groups=8),
            "transposed": nn.ConvTranspose2d(8, 8, 2, stride=2),
            "linear": nn.Linear(8, 8),
        }
        self.layer = kinds[kind]
        with torch.no_grad():
            change(self.layer)
        self.fc = nn.Linear(8, 4) if kind == "linear" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        if self.fc is not None:
            return self.fc(self.layer(x.mean((2, 3))).relu())
        return self.head(self.layer(x).relu())


def dead(layer: nn.Module) -> None:
    layer.bias.fill_(-5.0)


def very_dead(layer: nn.Module) -> None:
    layer.bias.fill_(-1e9)


def one_alive(layer: nn.Module) -> None:
    layer.bias.fill_(-50.0)
    layer.bias[3] = 0.1
    layer.weight.mul_(100.0)


def zero_weights(layer: nn.Module) -> None:
    layer.weight.zero_()


def zero_row(layer: nn.Module) -> None:
    layer.weight[2] = 0.0
    layer.bias[2] = 3.0


def all_zero(layer: nn.Module) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


def scaled(factor: float) -> Callable[[nn.Module], None]:
    def change(layer: nn.Module) -> None:
        layer.weight.mul_(factor)

    return change


def scaled_with_bias(factor: float) -> Callable[[nn.Module], None]:
    def change(layer: nn.Module) -> None:
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)

    return change


CHANGES = {
    "dead": dead,
    "very dead": very_dead,
    "one alive": one_alive,
    "zero weights": zero_weights,
    "zero row": zero_row,
    "all zero": all_zero,
    "denormal": scaled(1e-39),
    "1e-9": scaled(1e-9),
    "1e9": scaled(1e9),
    "1e30": scaled_with_bias(1e30),
    "tiny values": scaled_with_bias(1e-9),
}


@pytest.mark.parametrize("kind", ["conv", "depthwise", "transposed", "linear"])
def test_layers(kind: str) -> None:
    check({name: Layer(kind, change) for name, change in CHANGES.items()})


class Branches(nn.Module):
    """`body` of a live value and a dead one, both of 4 channels."""

    def __init__(self, body: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0, bias: float = -50.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.live, self.dead = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.dead.bias.fill_(bias)
            self.live.weight.mul_(weight)
            self.live.bias.mul_(weight)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.live(x), self.dead(x).relu())


BODIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "gate": lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)),
    "shut gate": lambda a, b: a.sigmoid() * b + a,
    "join": lambda a, b: torch.cat([a, b], 1),
    "mean": lambda a, b: b.mean((2, 3), keepdim=True) + a.mean((2, 3), keepdim=True),
    "joined means": lambda a, b: torch.cat([b.mean((2, 3)), 1e4 * a.mean((2, 3))], 1),
    "leaky": lambda a, b: nn.functional.leaky_relu(b, 0.1),
    "steep leaky": lambda a, b: nn.functional.leaky_relu(a, 300.0),
    "clamp": lambda a, b: b.clamp(0, 6),
    "clamped sum": lambda a, b: (b + b).clamp(0, 6),
    "sigmoid": lambda a, b: b.sigmoid(),
    "tanh": lambda a, b: b.tanh(),
    "gelu": lambda a, b: nn.functional.gelu(b),
    "hard swish": lambda a, b: nn.functional.hardswish(b),
    "softmax": lambda a, b: b.mean((2, 3)).softmax(1),
    "square": lambda a, b: b * b,
    "difference": lambda a, b: a - a,
    "pool": lambda a, b: nn.functional.max_pool2d(b, 2) + nn.functional.avg_pool2d(a, 2),
}


@pytest.mark.parametrize("weight", [1.0, 1e-4, 1e6])
def test_branches(weight: float) -> None:
    # A value less itself is nothing but the rounding of both.
    check({name: Branches(body, weight) for name, body in BODIES.items()}, {"difference": -np.inf})


def normalised(gamma: float, variance: float) -> nn.Module:
    torch.manual_seed(2)
    norm = nn.BatchNorm2d(8)
    norm.weight.data.fill_(gamma)
    norm.running_var.fill_(variance)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 4, 1))


def test_batch_norms() -> None:
    ends = [(0.0, 1.0), (1.0, 0.0), (1.0, 1e-30), (1e-20, 1.0), (1.0, 1e20)]
    check({f"{gamma}, {variance}": normalised(gamma, variance) for gamma, variance in ends})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_layers_without_finite_values_are_refused_by_name(value: float) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    network[2].weight.data[1, 2] = value
    with pytest.raises(UnsupportedError, match="not finite") as caught:
        frozen(network, pictures())
    assert caught.value.where == "2"


@pytest.mark.parametrize("bits", ["w4a8", "w8a16"])
def test_a_dead_layer_of_other_bits_opens_and_is_exact(bits: str) -> None:
    images = pictures()
    _, made = frozen(Layer("conv", dead), images, bits)
    data = write_tflite(made.graph)
    assert verify_tflite(made.graph, data, images.inputs[:2]).exact
    for name in KERNELS:
        LiteRTSession(data, kernels=name).run(images.inputs[:2])
