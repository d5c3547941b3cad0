"""Networks of random gates, sums, moves and layers, and whether one is itself in every form.

The suite takes a few seeds (`test_random_networks.py`), `benchmarks/fuzz_networks.py` hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Conv2d, Linear
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

__all__ = ["STEPS", "Chance", "check"]

RANGE, WIDTH, SHAPE = (-2.5, 2.5), 8, (3, 12, 11)

Step = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(layer of its own, one earlier value, another) -> a value of the same shape."""

STEPS: dict[str, Step] = {
    "conv": lambda m, x, y: m.conv(x),
    "depthwise": lambda m, x, y: m.depthwise(x),
    "prelu": lambda m, x, y: m.bent(x),
    "leaky relu": lambda m, x, y: F.leaky_relu(x, 0.2),
    "silu": lambda m, x, y: F.silu(x),
    "hard swish": lambda m, x, y: F.hardswish(x),
    "hard swish by hand": lambda m, x, y: x * (F.relu6(x + 3) / 6),
    "hard sigmoid": lambda m, x, y: F.hardsigmoid(x),
    "gelu": lambda m, x, y: F.gelu(x),
    "tanh": lambda m, x, y: torch.tanh(x),
    "sigmoid": lambda m, x, y: torch.sigmoid(x),
    "softmax": lambda m, x, y: torch.softmax(x, 1),
    "relu6": lambda m, x, y: F.relu6(x),
    "clamp": lambda m, x, y: x.clamp(-0.7, 1.1),
    "gate": lambda m, x, y: x * torch.sigmoid(y),
    "soft gate": lambda m, x, y: x * torch.sigmoid(m.conv(F.adaptive_avg_pool2d(y, 1))),
    "hard gate": lambda m, x, y: x * F.hardsigmoid(m.conv(F.adaptive_avg_pool2d(y, 1))),
    "linear gate": lambda m, x, y: x * torch.sigmoid(m.linear(y.mean((2, 3))))[:, :, None, None],
    "gate along channels": lambda m, x, y: x * m.along(y.mean((2, 3))[:, None]).sigmoid().view(-1, WIDTH, 1, 1),
    "gate per pixel": lambda m, x, y: x * torch.sigmoid(y.mean(1, keepdim=True)),
    "expanded gate": lambda m, x, y: x * torch.tanh(F.adaptive_max_pool2d(y, 1)).expand_as(x),
    "product": lambda m, x, y: x * y,
    "sum": lambda m, x, y: x + y,
    "difference": lambda m, x, y: x - y,
    "scale": lambda m, x, y: 1 - 1.7 * x,
    "scale per channel": lambda m, x, y: x * m.factors + 0.5,
    "join": lambda m, x, y: m.conv(torch.cat([x, y], 1)[:, ::2]),
    "halves": lambda m, x, y: torch.cat([y[:, 4:], x[:, :4]], 1),
    "maximum": lambda m, x, y: F.max_pool2d(x, 3, 1, 1),
    "maximum, one side": lambda m, x, y: F.max_pool2d(F.pad(x, (0, 2, 2, 0), value=-torch.inf), 3, 1),
    "average": lambda m, x, y: F.avg_pool2d(x, 3, 1, 1),
    "shift": lambda m, x, y: F.pad(x[:, :, 1:, :-1], (1, 0, 0, 1)),
    "mirror at the border": lambda m, x, y: m.bare(F.pad(x, (1, 1, 1, 1), mode="reflect")),
    "transposed conv": lambda m, x, y: F.max_pool2d(m.up(x), 2),
    "sub-pixels": lambda m, x, y: F.avg_pool2d(F.pixel_shuffle(m.wide(x), 2), 2),
    "nearest": lambda m, x, y: F.max_pool2d(F.interpolate(x, scale_factor=2, mode="nearest"), 3, 2, 1),
    "bilinear": lambda m, x, y: F.avg_pool2d(F.interpolate(x, scale_factor=2, mode="bilinear"), 2),
    "channel shuffle": lambda m, x, y: F.channel_shuffle(x, 2),
    "rows and back": lambda m, x, y: x.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2).reshape(x.shape),
    "turned over": lambda m, x, y: m.conv(x.transpose(2, 3)).transpose(2, 3),
}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.bare = nn.Conv2d(WIDTH, WIDTH, 3)
        self.wide = nn.Conv2d(WIDTH, 4 * WIDTH, 1)
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, bias=False)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, 1)
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.along = nn.Conv1d(1, 1, 3, padding=1)
        self.bent = nn.PReLU(WIDTH)
        nn.init.uniform_(self.bent.weight, -0.3, 1.2)
        self.register_buffer("factors", torch.randn(WIDTH, 1, 1))


class Chance(nn.Module):
    """Four to ten steps, each of any earlier values; every third network ends in a linear layer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        draw = np.random.default_rng(seed)
        self.steps = [str(name) for name in draw.choice(list(STEPS), int(draw.integers(4, 11)))]
        self.reads = [draw.integers(place + 1, size=2).tolist() for place in range(len(self.steps))]
        self.stem, self.last = nn.Conv2d(3, WIDTH, 3, 1 + seed % 2, 1), nn.Conv2d(2 * WIDTH, 4, 1)
        self.flat = seed % 3 == 2
        self.layers = nn.ModuleList(Layer() for _ in self.steps)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for name, layer, (one, other) in zip(self.steps, self.layers, self.reads, strict=True):
            values.append(STEPS[name](layer, values[one], values[other]))
        made = self.last(torch.cat([values[-1], values[len(values) // 2]], 1))
        return F.adaptive_avg_pool2d(made, 2).flatten(1) if self.flat else made


def check(seed: int) -> None:
    """The network of this seed: torch's values from the graph and both float files, no float op in any integer file,
    TFLite equal to the reference in w8a8, in w8a16 and with some layers in each, ONNX within a step. Raises
    `AssertionError` with its steps."""
    net = Chance(seed).eval()
    inputs = np.clip(np.random.default_rng(seed).normal(0, 1, (4, *SHAPE)), *RANGE).astype(np.float32)
    graph = optimize(capture(net, SHAPE, "net"))
    with torch.no_grad():
        expected = net(torch.from_numpy(inputs)).numpy()
        found = GraphModule(graph)(torch.from_numpy(inputs)).numpy()  # type: ignore[union-attr]
    largest = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=1e-4 * largest, err_msg=str(net.steps))
    for session in (OrtSession(write_onnx_float(graph)), LiteRTSession(write_tflite_float(graph))):
        np.testing.assert_allclose(session.run(inputs[:1])[0], expected[:1], atol=1e-3 * largest)
    images = CalibrationSet(inputs, np.full(4, -1, np.int64), "noise")
    integer = quantize(graph, images, RANGE, Scheme(7, 8))
    _exact(net, integer, inputs[:2])
    _exact(net, quantize(graph, images, RANGE, Scheme(8, 16)), inputs[:1])
    scheme = _mixture(graph, seed)
    mixed = apply_mixed_precision(graph, scheme)
    _exact(net, quantize(mixed, images, RANGE, scheme), inputs[:1])
    for activations in ("uint8", "int8"):
        data = write_onnx(integer, activations=activations)  # type: ignore[arg-type]
        kinds = optimized_census(data, activations)
        assert (kinds.float_ops, kinds.quantize, kinds.dequantize) == (0, 0, 0), (net.steps, kinds.kinds)
        near = verify_onnx(integer, data, inputs[:2], activations)  # type: ignore[arg-type]
        assert near.max_step <= 1, (net.steps, near.first_difference)


def _mixture(graph: Graph, seed: int) -> Scheme:
    """A third of the layers, one at least, in 16 bits where the others have 8, or the other way round."""
    draw = np.random.default_rng(seed)
    names = [node.name for node in graph.of_kind(Conv2d, Linear)]
    bits, other = ("w8a8", "w8a16") if seed % 2 else ("w8a16", "w8a8")
    drawn = draw.choice(names, 1 + len(names) // 3, replace=False)
    scheme = Scheme.of(bits, layers=tuple(f"{name}={other}" for name in drawn))
    return replace(scheme, ends=((None, None), (8, 8), (16, 16))[seed % 3])


def _exact(net: Chance, integer: IntegerGraph, inputs: np.ndarray) -> None:
    data = write_tflite(integer)
    kinds = census(data)
    assert (kinds.float_ops, kinds.quantize, kinds.dequantize) == (0, 0, 0), (net.steps, kinds.kinds)
    exactness = verify_tflite(integer, data, inputs)
    assert exactness.exact, (net.steps, exactness.first_difference)
