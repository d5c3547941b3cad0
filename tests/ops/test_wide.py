"""int16 activations: every op TFLite has a 16-bit kernel for, against LiteRT's reference kernels, and the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.tflite.read import read_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import (
    ELU,
    GELU,
    RELU,
    RELU6,
    UNIT,
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Mul,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Sigmoid,
    Slice,
    Softmax,
    Tanh,
)
from edgeq.integer.graph import Quantization
from edgeq.integer.reference import run
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, used_range, wide

EVERY = np.arange(-(1 << 15), 1 << 15).reshape(1, 1 << 16)
UNIT_GRID = Quantization(np.asarray(1 / 32767, np.float32), np.asarray(0, np.int32), "int16")
FIXED = {op: wide(256 / 32768) for op in (Sigmoid(), Tanh(), Softmax())} | {
    UNIT: UNIT_GRID,
    HardSigmoid(): UNIT_GRID,
}


def every(flow: Flow) -> Flow:
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY)  # type: ignore[method-assign]
    return flow


@pytest.mark.parametrize("kind", ["dense", "depthwise", "multiplied", "grouped"])
@EXAMPLES
@given(
    x=scales,
    y=scales,
    seed=seeds,
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    dilation=st.sampled_from([(1, 1), (2, 1)]),
    activation=st.sampled_from([None, RELU, RELU6, Clamp(-1.0, 1.0)]),
    bias=st.booleans(),
    tie=st.booleans(),
)
def test_convolution(kind, x, y, seed, padding, kernel, stride, dilation, activation, bias, tie) -> None:  # type: ignore[no-untyped-def]
    groups = {"dense": 1, "depthwise": 3, "multiplied": 3, "grouped": 2}[kind]
    channels, filters = {"dense": (3, 5), "depthwise": (3, 3), "multiplied": (3, 6), "grouped": (4, 6)}[kind]
    op = Conv2d(stride, padding, dilation, groups, activation)
    flow = Flow((1, channels, 7, 8), wide(x), seed)
    flow.weighted("conv", op, (filters, channels // groups, kernel, kernel), wide(y), bias=bias, tie=tie)
    assert_exact(flow)


@EXAMPLES
@given(
    x=scales,
    y=scales,
    seed=seeds,
    activation=st.sampled_from([None, RELU, RELU6]),
    bias=st.booleans(),
    tie=st.booleans(),
)
def test_linear(x, y, seed, activation, bias, tie) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 24), wide(x), seed)
    flow.weighted("fc", Linear(activation), (7, 24), wide(y), bias=bias, tie=tie)
    assert_exact(flow, count=8)


def test_sums_beyond_32_bits() -> None:
    """4,608 products of 16 and 8 bits, all of one sign, reach past 2^31."""
    flow = Flow((1, 512, 4, 4), wide(0.02))
    flow.weighted("conv", Conv2d(padding=(1, 1, 1, 1)), (4, 512, 3, 3), wide(0.05))
    flow.constants["conv.weight"][0] = 127
    flow.samples = lambda count=2: np.full((count, 512, 4, 4), 32767 * float(flow.entry.scale), np.float32)  # type: ignore[method-assign]
    assert_exact(flow)


@EXAMPLES
@given(
    a=scales,
    b=scales,
    y=scales,
    kind=st.sampled_from([Mul(), Add(), Add(RELU), Add(RELU6)]),
    gate=st.booleans(),
    seed=seeds,
)
def test_two_values(a, b, y, kind, gate, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), wide(a), seed)
    flow.add("other", GlobalAvgPool() if gate else LeakyReLU(0.5), q=wide(b))
    flow.add("y", kind, *(("x", "other") if seed % 2 else ("other", "x")), q=wide(y))
    assert_exact(flow, count=5)


@EXAMPLES
@given(
    op=st.sampled_from([Sigmoid(), Tanh(), GELU(), GELU(True), HardSigmoid(), LeakyReLU(0.1), RELU, RELU6, UNIT]),
    x=scales,
    y=scales,
)
def test_every_input_of_a_function(op, x, y) -> None:  # type: ignore[no-untyped-def]
    flow = every(Flow((1, 1 << 16), wide(x)))
    flow.add("y", op, q=FIXED.get(op, wide(max(y, x / 100))))
    assert_exact(flow)


@pytest.mark.parametrize(("approximate", "x", "y"), [(True, 3.0308e-05, 6.1956e-05), (False, 2.70514e-05, 1.18843e-05)])
@pytest.mark.parametrize("k", range(12))
def test_gelu_rounds_as_the_c_library_does(approximate: bool, x: float, y: float, k: int) -> None:
    flow = every(Flow((1, 1 << 16), wide(256 * x * 1.003**k)))
    flow.add("y", GELU(approximate), q=wide(256 * y * 0.997**k))
    assert_exact(flow)


@EXAMPLES
@given(x=scales, clamp=st.sampled_from([Clamp(-1.0, 1.0), Clamp(0.5, 4.0), Clamp(-2.0), Clamp(maximum=0.0)]))
def test_every_input_of_a_clamp_on_its_grid(x, clamp) -> None:  # type: ignore[no-untyped-def]
    flow = every(Flow((1, 1 << 16), wide(x)))
    flow.add("y", clamp)
    assert_exact(flow)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 6, 7)])
def test_hard_sigmoid_and_softmax_of_any_shape(shape: tuple[int, ...]) -> None:
    flow = Flow(shape, wide(0.03), 4)
    flow.add("gate", HardSigmoid(), q=UNIT_GRID)
    flow.add("swish", Mul(), "x", "gate", q=wide(0.02))
    flow.add("soft", Softmax(1 if len(shape) == 4 else len(shape) - 1), "swish", q=wide(256 / 32768))
    assert_exact(flow)


@EXAMPLES
@given(x=scales, width=st.sampled_from([2, 10, 100, 1000]), beta=st.sampled_from([1.0, 0.125, 0.1]), seed=seeds)
def test_softmax(x, width, beta, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, width), wide(x), seed)
    flow.add("y", Softmax(beta=float(np.float32(beta))), q=FIXED[Softmax()])
    assert_exact(flow, count=4)


@EXAMPLES
@given(x=scales, y=scales, size=st.tuples(st.integers(2, 9), st.integers(2, 9)), seed=seeds)
def test_pooling(x, y, size, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, *size), wide(x), seed)
    flow.add("max", MaxPool2d((2, 2), (2, 2), (1, 1, 1, 1)))
    flow.add("average", AvgPool2d((3, 3), (1, 1), (1, 1, 1, 1), count_padding=bool(seed % 2)), "x")
    flow.add("mean", GlobalAvgPool(), "x", q=wide(y))
    assert_exact(flow, "max", "average", "mean")


MOVES = {
    "concat": lambda f: f.add("y", Concat(1), f.add("a", Slice((0, 0, 0, 0), (1, 4, 4, 3), (1, 1, 1, 1))), "a"),
    "pad": lambda f: f.add("y", Pad((0, 0, 1, 2), (0, 0, 0, 1))),
    "permute": lambda f: f.add("y", Permute((0, 2, 3, 1))),
    "reshape": lambda f: f.add("y", Reshape((4, 24))),
    "slice": lambda f: f.add("y", Slice((0, 1, 0, 1), (1, 3, 4, 6), (1, 1, 2, 2))),
    "nearest": lambda f: f.add("y", Resize2d((8, 12), "nearest")),
    "bilinear": lambda f: f.add("y", Resize2d((8, 12), "bilinear")),
    "corners": lambda f: f.add("y", Resize2d((7, 9), "bilinear", True)),
    "shuffle": lambda f: f.add(
        "y", Reshape((1, 8, 12)), f.add("p", Permute((0, 3, 1, 4, 2)), f.add("r", Reshape((2, 2, 4, 6))))
    ),
}


@pytest.mark.parametrize("kind", MOVES)
def test_moves(kind: str) -> None:
    flow = Flow((1, 4, 4, 6), wide(0.02), 3)
    MOVES[kind](flow)
    assert_exact(flow)


@pytest.mark.parametrize("io", ["int16", "float32"])
def test_types_at_the_edges(io: str) -> None:
    flow = Flow((1, 3, 6, 6), wide(0.02))
    flow.weighted("conv", Conv2d((2, 2), (1, 1, 1, 1), activation=RELU), (4, 3, 3, 3), wide(0.05))
    assert_exact(flow, io=io)
    found = read_tflite(write_tflite(flow.graph(), io=io))
    assert {t.type for t in (*found.inputs, *found.outputs)} == {io}
    (layer,) = (op for op in found.ops if op.macs)
    assert [t.type for t in (*layer.inputs, *layer.constants, *layer.outputs)] == ["int16", "int8", "int64", "int16"]
    assert found.census.clean
    assert used_range(run(flow.graph(), flow.entry.quantize(flow.samples())), "conv") > 40


def test_what_has_no_kernel_is_refused() -> None:
    flow = Flow((1, 8), wide(0.02))
    flow.add("y", HardSwish(), q=wide(0.02))
    with pytest.raises(UnsupportedError, match="HardSwish"):
        write_tflite(flow.graph())
    flow = Flow((1, 8), wide(0.02))
    flow.add("y", ELU(), q=wide(0.02))
    with pytest.raises(UnsupportedError, match="ELU of 16-bit"):
        write_tflite(flow.graph())
    with pytest.raises(UnsupportedError, match="ELU of int16"):
        run(flow.graph(), np.zeros((1, 8), np.int16))
    flow = Flow((1, 8), wide(0.02))
    flow.add("y", Clamp(-1.0, 1.0), q=wide(0.01))
    with pytest.raises(UnsupportedError, match="Clamp"):
        write_tflite(flow.graph())
    flow = Flow((1, 8), wide(0.02))
    flow.add("y", LeakyReLU(), q=quantization(0.1))
    with pytest.raises(UnsupportedError, match="int16 and int8 activations in one"):
        write_tflite(flow.graph())
    flow = Flow((1, 8), wide(0.02))
    flow.add("y", LeakyReLU(), q=wide(0.1))
    for io in ("int8", "uint8"):
        with pytest.raises(ConfigError, match="int16 activations"):
            write_tflite(flow.graph(), io=io)
