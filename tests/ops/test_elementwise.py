"""Products, sums that broadcast, and smooth activations: TFLite files against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import (
    ELU,
    GELU,
    NEGATIVE,
    UNIT,
    Add,
    Clamp,
    Conv2d,
    Exp,
    GlobalAvgPool,
    HardSigmoid,
    LeakyReLU,
    Log,
    Maximum,
    Mish,
    Mul,
    Power,
    Sigmoid,
    Sin,
    Slice,
    Softplus,
    Tanh,
)
from edgeq.integer.graph import Quantization
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, zero_points

UNIT_GRID = quantization(1 / 255, -128)
EVERY = np.arange(-128, 128).reshape(1, 256)


@EXAMPLES
@given(
    a=scales,
    b=scales,
    y=scales,
    az=zero_points,
    bz=zero_points,
    yz=zero_points,
    kind=st.sampled_from([Mul, Add]),
    repeated=st.sampled_from(["", "pixels", "channels"]),
    seed=seeds,
)
def test_two_values(a, b, y, az, bz, yz, kind, repeated, seed) -> None:  # type: ignore[no-untyped-def]
    """Of one shape, or one of them a number per channel, or per pixel."""
    flow = Flow((1, 3, 5, 4), quantization(a, az), seed)
    source = flow.add("one", Slice((0, 0, 0, 0), (1, 1, 5, 4), (1, 1, 1, 1))) if repeated == "channels" else "x"
    flow.add("other", GlobalAvgPool() if repeated == "pixels" else LeakyReLU(0.5), source, q=quantization(b, bz))
    flow.add("y", kind(), *(("x", "other") if seed % 2 else ("other", "x")), q=quantization(y, yz))
    assert_exact(flow, count=5)


@EXAMPLES
@given(a=scales, y=scales, az=zero_points, yz=zero_points, seed=seeds)
def test_square(a, y, az, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(a, az), seed)
    flow.add("y", Mul(), "x", "x", q=quantization(y, yz))
    assert_exact(flow)


@EXAMPLES
@given(x=scales, xz=zero_points, seed=seeds)
def test_larger_of_two(x, xz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), quantization(x, xz), seed)
    flow.add("other", LeakyReLU(0.5), q=quantization(x, xz))
    flow.add("y", Maximum(), *(("x", "other") if seed % 2 else ("other", "x")))
    assert_exact(flow)


LOOKED_UP = [ELU(), ELU(1.67, 1.05), ELU(2.0, 1.0, 0.5), Mish(), Softplus(), Exp(), Log(), Sin()]
LOOKED_UP += [Power(exponent) for exponent in (0.5, -1.0, -2.0, 0.3, 3.0)]
FIXED = {HardSigmoid(): UNIT_GRID, Sigmoid(): quantization(1 / 256, -128), Tanh(): quantization(1 / 128, 0)}


@EXAMPLES
@given(
    op=st.sampled_from([Sigmoid(), Tanh(), GELU(), GELU(True), HardSigmoid(), *LOOKED_UP]),
    x=scales,
    y=scales,
    xz=zero_points,
    yz=zero_points,
    seed=seeds,
)
def test_every_input_of_a_function(op, x, y, xz, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(x, xz), seed)
    flow.add("y", op, q=FIXED.get(op, quantization(max(y, x / 100), yz)))
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY)  # type: ignore[method-assign]
    assert_exact(flow)


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (1, 7), (1, 3, 5)])
def test_hard_sigmoid_of_any_shape(shape: tuple[int, ...]) -> None:
    flow = Flow(shape, quantization(0.05, 7))
    flow.add("y", HardSigmoid(), q=UNIT_GRID)
    assert_exact(flow)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 3e-9, 1e-8, 3e-7, 1e-5, 30.0, 1e6])
def test_values_that_vanish_or_explode(scale: float) -> None:
    """As in a network with random weights: a gate is one half, or 0 and 1."""
    flow = Flow((1, 3, 5, 4), quantization(scale, 7))
    for name, op in (("h", HardSigmoid()), ("s", Sigmoid()), ("t", Tanh())):
        flow.add(name, op, "x", q=FIXED[op])
        flow.add(f"{name}x", Mul(), "x", name, q=quantization(scale / 2, -3))
    assert_exact(flow, *(node.name for node in flow.nodes))


@pytest.mark.parametrize("op", [Sigmoid(), Tanh(), HardSigmoid()])
def test_a_grid_no_kernel_has_is_refused(op) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(0.05))
    flow.add("y", op, q=quantization(0.01))
    with pytest.raises(UnsupportedError, match="a scale of its own"):
        write_tflite(flow.graph())


@pytest.mark.parametrize(("clamp", "q"), [(UNIT, UNIT_GRID), (NEGATIVE, quantization(0.02, 127))])
def test_a_grid_that_ends_with_the_activation_is_the_activation(clamp: Clamp, q: Quantization) -> None:
    for weighted in (True, False):
        flow = Flow((1, 4, 5, 3), quantization(0.02, 5))
        if weighted:
            flow.weighted("y", Conv2d(activation=clamp), (6, 4, 1, 1), q)
        else:
            flow.add("y", Add(clamp), "x", "x", q=q)
        assert_exact(flow)
    flow = Flow((1, 4, 5, 3), quantization(0.02, 5))
    flow.weighted("y", Conv2d(activation=clamp), (6, 4, 1, 1), quantization(0.02, 3))
    with pytest.raises(UnsupportedError, match="fused clamp"):
        write_tflite(flow.graph())
