"""Layer norm and its relatives: the ops they are made of in both formats, and whole norms from torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
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
from edgeq.graph.ops import Add, Conv2d, Linear, MatMul, MeanSquare, Permute, Reshape, Rsqrt
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.synth.weightstats import estimate_faithful, estimate_moments
from tests.host import WIDEST
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, used_range, wide, zero_points

RANGE = (-2.5, 2.5)
TYPES = st.sampled_from(["uint8", "int8"])
shapes = st.tuples(st.just(1), st.integers(1, 70), st.integers(1, 6), st.integers(1, 6))


def assert_near(flow: Flow, activations: str, expected: set[str]) -> None:
    """In onnxruntime: these integer kernels, its own arithmetic, and the reference's within a step."""
    graph = flow.graph()
    data = write_onnx(graph, activations=activations)  # type: ignore[arg-type]
    found = optimized_census(data, activations)
    moves = {"Reshape", "Slice", "Transpose"}
    assert set(found.kinds) - {"QuantizeLinear", "DequantizeLinear", *moves} == expected
    assert (found.float_ops, found.quantize, found.dequantize) == (0, 0, 0)
    own = verify_onnx(graph, data, flow.samples(), activations, rounding="onnxruntime")  # type: ignore[arg-type]
    assert own.exact, own.first_difference
    assert verify_onnx(graph, data, flow.samples(), activations).max_step <= 1  # type: ignore[arg-type]


@EXAMPLES
@given(
    shape=shapes,
    x=scales,
    zero=zero_points,
    finer=st.floats(0.3, 8),
    eps=st.floats(0, 300),
    seed=seeds,
    activations=TYPES,
)
def test_mean_square(shape, x, zero, finer, eps, seed, activations) -> None:  # type: ignore[no-untyped-def]
    """On grids that it fills, leaves almost empty and overruns, with an epsilon of no step to all there are."""
    scale = x * x * 90.0 / finer
    flow = Flow(shape, quantization(x, zero), seed)
    flow.add("y", MeanSquare(eps * scale), q=quantization(scale, -128))
    assert_exact(flow)
    assert_near(flow, activations, {"QLinearMatMul"})


@pytest.mark.parametrize(
    ("x", "steps", "y"),
    [(0.06732655316591263, 94, 0.379643976688385), (0.08716638386249542, 97, 0.7113379836082458)],
)
@pytest.mark.parametrize("op", [MeanSquare(0.0), MatMul(transposed=True)])
def test_products_of_scales_are_in_float32_as_in_the_kernel(op, x, steps, y) -> None:  # type: ignore[no-untyped-def]
    """With the product of scales in float64 these values are a step lower."""
    square = isinstance(op, MatMul)
    flow = Flow((1, 1, 64) if square else (1, 64, 1, 1), quantization(x))
    flow.add("y", op, *["x"] * (1 + square), q=quantization(np.float32(y) * np.float32(64) if square else y, -128))
    flow.samples = lambda count=1: flow.entry.dequantize(np.full(flow.shape, steps))  # type: ignore[method-assign]
    assert_exact(flow)


@EXAMPLES
@given(shape=shapes, x=scales, finer=st.floats(0.3, 8), eps=st.sampled_from([0.0, 0.3, 2.0, 500.0]), seed=seeds)
def test_mean_square_of_int16(shape, x, finer, eps, seed) -> None:  # type: ignore[no-untyped-def]
    scale = x * x * 90.0 / finer
    flow = Flow(shape, wide(x), seed)
    flow.add("y", MeanSquare(eps * scale / 256), q=wide(scale))
    assert_exact(flow)


@EXAMPLES
@given(
    x=st.floats(1e-6, 10), largest=st.floats(0.5, 30), zero=st.sampled_from([-128, -128, -100, 5]), activations=TYPES
)
def test_every_input_of_an_inverse_square_root(x, largest, zero, activations) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 128 - zero), quantization(x, zero))
    flow.add("y", Rsqrt(), q=quantization(x**-0.5 / largest, -128))
    flow.samples = lambda count=1: flow.entry.dequantize(np.arange(zero, 128)[None])  # type: ignore[method-assign]
    assert_exact(flow)
    assert_near(flow, activations, {"Cast", "GatherElements"})


@EXAMPLES
@given(x=st.floats(1e-6, 10), largest=st.floats(50, 30000))
def test_every_int16_of_an_inverse_square_root(x, largest) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 1 << 15), wide(256 * x))
    flow.add("y", Rsqrt(), q=wide(256 * x**-0.5 / largest))
    flow.samples = lambda count=1: flow.entry.dequantize(np.arange(1 << 15)[None])  # type: ignore[method-assign]
    assert_exact(flow)


class Function(nn.Module):
    """A norm of some form in a network that is convolutions otherwise."""

    def __init__(self, form: Callable[[nn.Module, Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.last = nn.Conv2d(3, channels, 3, 2, 1), nn.Conv2d(channels, 5, 1)
        self.form = form
        self.gamma, self.beta = nn.Parameter(torch.rand(channels) + 0.5), nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.form(self, self.stem(x)))


def _last(m: nn.Module, x: Tensor) -> Tensor:
    return F.layer_norm(x.permute(0, 2, 3, 1), (8,), m.gamma, m.beta, 1e-6).permute(0, 3, 1, 2)


def _tokens(m: nn.Module, x: Tensor) -> Tensor:
    y = F.layer_norm(x.flatten(2).transpose(1, 2), (8,), m.gamma, m.beta)
    return F.gelu(y).transpose(1, 2).reshape(x.shape)


FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "channels": _last,
    "channels, plain": lambda m, x: F.layer_norm(x.movedim(1, -1), (8,)).movedim(-1, 1),
    "tokens": _tokens,
    "all of it": lambda m, x: F.layer_norm(x, x.shape[1:]),
    "root mean square": lambda m, x: F.rms_norm(x.movedim(1, -1), (8,), m.gamma).movedim(-1, 1),
    "groups": lambda m, x: F.group_norm(x, 2, m.gamma, m.beta),
    "instances": lambda m, x: F.instance_norm(x, weight=m.gamma, bias=m.beta),
    "pooled": lambda m, x: x * _last(m, F.adaptive_avg_pool2d(x, 1)).sigmoid(),
    "large epsilon": lambda m, x: F.layer_norm(x.movedim(1, -1), (8,), eps=0.05).movedim(-1, 1),
}


def frozen(module: nn.Module, shape: tuple[int, ...], bits: int = 8) -> tuple[Graph, IntegerGraph, np.ndarray]:  # type: ignore[type-arg]
    graph = optimize(capture(module.eval(), shape, "net"))
    drawn = np.clip(np.random.default_rng(0).normal(0, 1, (4, *shape)), *RANGE).astype(np.float32)
    images = CalibrationSet(drawn, np.full(4, -1, np.int64), "noise")
    return (
        graph,
        quantize(graph, images, RANGE, Scheme.of(f"w8a{bits}", widest=WIDEST)),
        drawn,
    )


@pytest.mark.parametrize("name", FORMS)
def test_a_norm_is_itself_in_every_form(name: str) -> None:
    net = Function(FORMS[name]).eval()
    graph, integer, inputs = frozen(net, (3, 10, 14))
    with torch.no_grad():
        expected = net(torch.from_numpy(inputs)).numpy()
        found = GraphModule(graph)(torch.from_numpy(inputs)).numpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for session in (OrtSession(write_onnx_float(graph)), LiteRTSession(write_tflite_float(graph))):
        np.testing.assert_allclose(session.run(inputs[:1])[0], expected[:1], atol=1e-3)
    data = write_tflite(integer)
    kinds = census(data)
    assert (kinds.float_ops, kinds.quantize, kinds.dequantize) == (0, 0, 0)
    assert kinds.transposes == 0
    exactness = verify_tflite(integer, data, inputs[:1])
    assert exactness.exact, exactness.first_difference
    onnx = write_onnx(integer, activations="uint8")
    assert optimized_census(onnx, "uint8").float_ops == 0
    assert verify_onnx(integer, onnx, inputs[:1], "uint8", rounding="onnxruntime").shares[0] > 0.9999
    made = LiteRTSession(write_tflite(integer, io="float32"), kernels="reference").run(inputs)[0]
    assert noise(expected, made) < 0.05


def noise(expected: np.ndarray, made: np.ndarray) -> float:  # type: ignore[type-arg]
    """Root of the share of the power that is error."""
    return float(np.sqrt(((made - expected) ** 2).mean() / expected.var()))


class Block(nn.Module):
    """ConvNeXt's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm, self.gamma = nn.LayerNorm(channels, eps=1e-6), nn.Parameter(torch.rand(channels))
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        nn.init.uniform_(self.norm.weight, 0.5, 2)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spread(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class First(nn.LayerNorm):
    """Layer norm of channels that come first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 12, 4, 4), First(12), Block(12), First(12), nn.Conv2d(12, 20, 2, 2), Block(20)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), First(20), nn.Flatten(), nn.Linear(20, 7)).eval()


@pytest.mark.parametrize("bits", [8, 16])
def test_convnext(bits: int) -> None:
    """Pixels' linear layers are convolutions, a norm's scale and shift are the next one's, and nothing turns round."""
    net = convnext()
    graph, integer, inputs = frozen(net, (3, 40, 48), bits)
    assert not list(graph.of_kind(Permute))
    assert len(list(graph.of_kind(Reshape))) == len(list(graph.of_kind(Linear))) == 1
    # Stem, downsampling, three per block, a mean per norm; scale and shift of norms before 7 x 7 and before a reshape.
    assert len(list(graph.of_kind(Conv2d))) == 1 + 1 + 2 * 3 + 5 + 2
    data = write_tflite(integer)
    kinds = census(data)
    assert kinds.clean, kinds.kinds
    exactness = verify_tflite(integer, data, inputs[:2])
    assert exactness.exact, exactness.first_difference
    if bits == 8:
        for activations in ("uint8", "int8"):
            onnx = write_onnx(integer, activations=activations)  # type: ignore[arg-type]
            found = optimized_census(onnx, activations)
            assert (found.float_ops, found.quantize, found.dequantize) == (0, 0, 0), found.kinds
            assert verify_onnx(integer, onnx, inputs[:2], activations).max_step <= 1  # type: ignore[arg-type]
    with torch.no_grad():
        expected = net(torch.from_numpy(inputs)).numpy()
    for kernels in ("reference", "builtin", "xnnpack"):
        made = LiteRTSession(write_tflite(integer, io="float32"), kernels=kernels).run(inputs)[0]
        assert noise(expected, made) < (0.06 if bits == 8 else 0.01), kernels


def test_pixels_of_all_lengths_are_normed() -> None:
    """The longest vectors decide the grids; those a tenth as long are as right as their own integers."""
    flow_shape = (1, 64, 1, 32)
    lengths = np.geomspace(1, 0.1, 32)

    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x.movedim(1, -1), (64,)).movedim(-1, 1)

    graph = optimize(capture(Norm(), flow_shape[1:], "norm"))
    drawn = (np.random.default_rng(1).normal(0, 0.8, (16, *flow_shape[1:])) * lengths).clip(*RANGE).astype(np.float32)
    images = CalibrationSet(drawn, np.full(16, -1, np.int64), "noise")
    integer = quantize(graph, images, RANGE, Scheme.of("w8a8", widest=WIDEST))
    found = LiteRTSession(write_tflite(integer, io="float32"), kernels="reference", channels=64).run(drawn)[0]
    seen = integer.quantizations["x"].dequantize(integer.quantizations["x"].quantize(drawn))
    expected, ideal = (GraphModule(graph)(torch.from_numpy(v)).numpy() for v in (drawn, seen))  # type: ignore[union-attr]
    for place in (0, 16, 31):
        own = noise(expected[..., place], ideal[..., place])
        assert noise(expected[..., place], found[..., place]) < 2 * own + 0.02


def test_norms_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="32-bit sum"):
        capture(nn.LayerNorm((3, 128, 128)), (3, 128, 128), "net")
    with pytest.raises(UnsupportedError, match="running statistics"):
        capture(nn.InstanceNorm2d(3, track_running_stats=True), (3, 8, 8), "net")


def test_statistics_of_weights_go_through_norms() -> None:
    graph = optimize(capture(convnext(), (3, 40, 48), "net"))
    for found in (estimate_faithful(graph), estimate_moments(graph)):
        assert all(np.isfinite(s.mean).all() and np.isfinite(s.std).all() for s in found.values())
    ends = [name for name in estimate_moments(graph) if name.endswith("up.conv")]
    assert len(ends) == 2


def test_channels_last_arithmetic_and_layers_are_those_of_pictures() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.tokens = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.tanh(self.linear(x.permute(0, 2, 3, 1)) * torch.arange(1.0, 5) + torch.ones(4))
            return self.tokens(y.flatten(1, 2)) - torch.arange(3.0)

    net = Net().eval()
    graph = optimize(capture(net, (6, 5, 7), "net"))
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(GraphModule(graph)(x), net(x), rtol=1e-4, atol=1e-5)
    assert len(list(graph.of_kind(Conv2d))) == 2
    assert not list(graph.of_kind(Add))


def test_the_ops_are_not_constant() -> None:
    flow = Flow((1, 24, 6, 6), quantization(0.05, 3))
    flow.add("power", MeanSquare(), q=quantization(0.1, -128))
    flow.add("root", Rsqrt(), "power", q=quantization(0.02, -128))
    values = run(flow.graph("power", "root"), np.random.default_rng(0).integers(-128, 128, (40, 24, 6, 6)))
    assert min(used_range(values, name) for name in values) > 8
