"""Products, sums that broadcast, and smooth activations in ONNX: integer kernels only, within a step of the reference,
and every step explained by onnxruntime's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.file import read_model
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.graph.ops import (
    ELU,
    GELU,
    Add,
    GlobalAvgPool,
    HardSigmoid,
    LeakyReLU,
    Mish,
    Mul,
    Sigmoid,
    Slice,
    Softplus,
    Tanh,
)
from edgeq.integer.reference import run
from tests.ops.flow import EXAMPLES, Flow, quantization, scales, seeds, used_range, zero_points

EVERY = np.arange(-128, 128).reshape(1, 256)
FIXED = {
    HardSigmoid(): quantization(1 / 255, -128),
    Sigmoid(): quantization(1 / 256, -128),
    Tanh(): quantization(1 / 128, 0),
}
LOOKED_UP = [ELU(), ELU(1.67, 1.05), ELU(2.0, 1.0, 0.5), Mish(), Softplus()]
KERNELS = {
    Sigmoid: {"QLinearSigmoid"},
    Tanh: {"QLinearSigmoid"},
    HardSigmoid: {"QLinearAdd"},
    **{kind: {"Cast", "GatherElements", "Reshape"} for kind in (ELU, GELU, Mish, Softplus)},
}
TYPES = st.sampled_from(["uint8", "int8"])


def assert_near(flow: Flow, activations: str, expected: set[str], count: int = 5) -> None:
    graph = flow.graph()
    data = write_onnx(graph, activations=activations)  # type: ignore[arg-type]
    fused = optimized_census(data, activations)
    assert set(fused.kinds) - {"QuantizeLinear", "DequantizeLinear"} == expected
    assert (fused.float_ops, fused.quantize, fused.dequantize) == (0, 0, 0)
    samples = flow.samples(count)
    own = verify_onnx(graph, data, samples, activations, rounding="onnxruntime")  # type: ignore[arg-type]
    assert own.exact, own.first_difference
    found = verify_onnx(graph, data, samples, activations)  # type: ignore[arg-type]
    assert found.max_step <= 1, (found.per_op, found.first_difference)


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
    activations=TYPES,
)
def test_two_values(a, b, y, az, bz, yz, kind, repeated, seed, activations) -> None:  # type: ignore[no-untyped-def]
    """Of one shape, or one of them a number per channel, or per pixel."""
    flow = Flow((1, 3, 5, 4), quantization(a, az), seed)
    source = flow.add("one", Slice((0, 0, 0, 0), (1, 1, 5, 4), (1, 1, 1, 1))) if repeated == "channels" else "x"
    flow.add("other", GlobalAvgPool() if repeated == "pixels" else LeakyReLU(0.5), source, q=quantization(b, bz))
    flow.add("y", kind(), *(("x", "other") if seed % 2 else ("other", "x")), q=quantization(y, yz))
    before = {"QLinearGlobalAveragePool"} if repeated == "pixels" else {"QLinearLeakyRelu"}
    before |= {"Slice"} if repeated == "channels" else set()
    assert_near(flow, activations, {*before, f"QLinear{kind.__name__}"})


@EXAMPLES
@given(a=scales, y=scales, az=zero_points, yz=zero_points, seed=seeds, activations=TYPES)
def test_square(a, y, az, yz, seed, activations) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(a, az), seed)
    flow.add("y", Mul(), "x", "x", q=quantization(y, yz))
    assert_near(flow, activations, {"QLinearMul"})


@EXAMPLES
@given(
    op=st.sampled_from([Sigmoid(), Tanh(), GELU(), GELU(True), HardSigmoid(), *LOOKED_UP]),
    x=scales,
    y=scales,
    xz=zero_points,
    yz=zero_points,
    seed=seeds,
    activations=TYPES,
)
def test_every_input_of_a_function(op, x, y, xz, yz, seed, activations) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(x, xz), seed)
    flow.add("y", op, q=FIXED.get(op, quantization(max(y, x / 100), yz)))
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY)  # type: ignore[method-assign]
    assert_near(flow, activations, KERNELS[type(op)])


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("scale", [1e-9, 3e-7, 1e-5, 30.0])
def test_values_that_vanish_or_explode(scale: float, activations: str) -> None:
    flow = Flow((1, 3, 5, 4), quantization(scale, 7))
    for name, op in (("h", HardSigmoid()), ("s", Sigmoid()), ("t", Tanh())):
        flow.add(name, op, "x", q=FIXED[op])
    graph = flow.graph("h", "s", "t")
    found = verify_onnx(graph, write_onnx(graph, activations=activations), flow.samples(4), activations)  # type: ignore[arg-type]
    assert found.max_step <= 1, (found.per_op, found.first_difference)


@pytest.mark.parametrize("op", [Tanh(), HardSigmoid(), GELU()])
@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_an_integer_output_says_on_which_grid_it_lies(op, activations: str) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(0.05, 3))
    flow.add("y", op, q=FIXED.get(op, quantization(0.04, -100)))
    graph = flow.graph()
    model, _ = read_model(write_onnx(graph, activations=activations, io=activations))  # type: ignore[arg-type]
    grid = model.output_grid("y")
    assert grid is not None
    q, shift = graph.quantizations["y"], 128 if activations == "uint8" else 0
    assert (grid.scale, grid.zero_point) == (q.scale, int(q.zero_point) + shift)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh(), HardSigmoid()])
def test_a_grid_the_forms_do_not_make_is_refused(op) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(0.05))
    flow.add("y", op, q=quantization(0.01))
    with pytest.raises(UnsupportedError, match="a scale of its own"):
        write_onnx(flow.graph(), activations="uint8")


def test_the_functions_are_not_constant() -> None:
    flow = Flow((1, 256), quantization(0.05, 0))
    for place, op in enumerate([Sigmoid(), Tanh(), GELU(), HardSigmoid()]):
        flow.add(f"y{place}", op, "x", q=FIXED.get(op, quantization(0.04, -100)))
    values = run(flow.graph("y0", "y1", "y2", "y3"), EVERY)
    assert min(used_range(values, name) for name in values) > 80
