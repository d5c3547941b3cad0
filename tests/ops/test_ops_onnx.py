"""Every op as ONNX: one fused integer kernel, its integers within a step of the reference and all of them explained."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.graph.ops import (
    RELU,
    RELU6,
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Slice,
    Softmax,
)
from edgeq.integer.graph import Quantization
from edgeq.integer.reference import run
from tests.ops.flow import FEW, Flow, quantization, scales, seeds, zero_points

SOFTMAX = quantization(1 / 256, -128)


def conv(flow: Flow, y: Quantization, op: Conv2d, weight: tuple[int, ...]) -> set[str]:
    flow.weighted("y", op, weight, y)
    return {"QLinearConv"}


def linear(flow: Flow, y: Quantization, op: Linear) -> set[str]:
    flow.add("flat", Reshape((8 * 6 * 5,)))
    flow.weighted("y", op, (7, 8 * 6 * 5), y, "flat")
    return {"Flatten", "QGemm"}


def own(flow: Flow, y: Quantization, op: object, kernel: str) -> set[str]:
    flow.add("y", op, q=y)  # type: ignore[arg-type]
    same = (y.scale, y.zero_point) == (flow.entry.scale, flow.entry.zero_point)
    return {"Clip"} if same and isinstance(op, Clamp) else {kernel}


def shared(flow: Flow, y: Quantization, op: object, kernel: str) -> set[str]:
    flow.add("y", op)  # type: ignore[arg-type]
    return {kernel}


def add(flow: Flow, y: Quantization, op: Add) -> set[str]:
    flow.add("other", LeakyReLU(0.5), q=quantization(0.7 * float(flow.entry.scale), 9))
    flow.add("y", op, "x", "other", q=y)
    return {"QLinearAdd", "QLinearLeakyRelu"}


def larger(flow: Flow, y: Quantization) -> set[str]:
    flow.add("other", LeakyReLU(-0.5), q=flow.entry)
    flow.add("y", Maximum(), "x", "other")
    return {"Max", "QLinearLeakyRelu"}


def concat(flow: Flow, y: Quantization) -> set[str]:
    flow.add("part", Slice((0, 2, 0, 0), (1, 5, 6, 5), (1, 1, 1, 1)))
    flow.add("y", Concat(1), "x", "part")
    return {"Slice", "Concat"}


def softmax(flow: Flow, y: Quantization) -> set[str]:
    flow.add("flat", Reshape((8 * 6 * 5,)))
    flow.add("y", Softmax(), "flat", q=SOFTMAX)
    return {"Flatten", "QLinearSoftmax"}


def softmax_of_rows(flow: Flow, y: Quantization) -> set[str]:
    flow.add("rows", Reshape((8, 30)))
    flow.add("y", Softmax(2), "rows", q=SOFTMAX)
    return {"Reshape", "QLinearSoftmax"}


def softmax_of_scaled(flow: Flow, y: Quantization) -> set[str]:
    flow.add("rows", Reshape((8, 30)))
    flow.add("y", Softmax(2, 0.125), "rows", q=SOFTMAX)
    return {"Reshape", "QLinearSoftmax"}


def softmax_of_pixels(flow: Flow, y: Quantization) -> set[str]:
    flow.add("y", Softmax(), q=SOFTMAX)
    return {"QLinearSoftmax"}


CASES = {
    "conv": (conv, Conv2d((1, 1), (1, 1, 1, 1)), (9, 8, 3, 3)),
    "conv same padding": (conv, Conv2d((2, 2), (0, 1, 0, 1), activation=RELU), (9, 8, 3, 3)),
    "conv relu6": (conv, Conv2d(activation=RELU6), (16, 8, 1, 1)),
    "conv dilated in groups": (conv, Conv2d((1, 1), (2, 2, 2, 2), (2, 2), 2), (6, 4, 3, 3)),
    "depthwise": (conv, Conv2d((1, 1), (1, 1, 1, 1), groups=8, activation=RELU6), (8, 1, 3, 3)),
    "depthwise doubled": (conv, Conv2d((1, 2), (1, 0, 0, 1), groups=8), (16, 1, 3, 3)),
    "linear": (linear, Linear()),
    "linear relu": (linear, Linear(RELU)),
    "add": (add, Add()),
    "add relu": (add, Add(RELU)),
    "leaky relu": (own, LeakyReLU(0.1), "QLinearLeakyRelu"),
    "relu alone": (own, RELU, "QLinearLeakyRelu"),
    "limits alone": (shared, Clamp(-1.0, 2.5), "Clip"),
    "global average": (own, GlobalAvgPool(), "QLinearGlobalAveragePool"),
    "average": (shared, AvgPool2d((3, 3), (2, 2), (1, 1, 1, 1)), "QLinearAveragePool"),
    "average counting padding": (shared, AvgPool2d((2, 2), (1, 1), (1, 0, 0, 1), True), "QLinearAveragePool"),
    "maximum": (shared, MaxPool2d((3, 3), (2, 2), (0, 1, 1, 1)), "MaxPool"),
    "pad channels": (shared, Pad((0, 2, 0, 0), (0, 1, 0, 0)), "Pad"),
    "pad space": (shared, Pad((0, 0, 1, 0), (0, 0, 0, 2)), "Pad"),
    "slice": (shared, Slice((0, 0, 1, 0), (1, 8, 6, 5), (1, 1, 2, 2)), "Slice"),
    "permute": (shared, Permute((0, 2, 3, 1)), "Transpose"),
    "twice the size, bilinear": (shared, Resize2d((12, 10)), "Resize"),
    "nearest": (shared, Resize2d((12, 15), "nearest"), "Resize"),
    "reshape": (shared, Reshape((4, 60)), "Reshape"),
    "larger": (larger,),
    "concat": (concat,),
    "softmax": (softmax,),
    "softmax of rows": (softmax_of_rows,),
    "softmax of rows, scaled": (softmax_of_scaled,),
    "softmax of pixels": (softmax_of_pixels,),
}


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("case", CASES)
@FEW
@given(x=scales, y=scales, xz=zero_points, yz=zero_points, seed=seeds)
def test_op(case, activations, x, y, xz, yz, seed) -> None:  # type: ignore[no-untyped-def]
    build, *arguments = CASES[case]
    flow = Flow((1, 8, 6, 5), quantization(x, xz), seed)
    expected = build(flow, quantization(y, yz), *arguments)  # type: ignore[operator]
    graph = flow.graph()
    data = write_onnx(graph, activations=activations)
    fused = optimized_census(data, activations)
    assert set(fused.kinds) - {"QuantizeLinear", "DequantizeLinear", "Transpose", "Clip"} == expected - {
        "Clip",
        "Transpose",
    }
    assert (fused.float_ops, fused.quantize, fused.dequantize) == (0, 0, 0)
    samples = flow.samples(5)
    own_rounding = verify_onnx(graph, data, samples, activations, rounding="onnxruntime")
    assert own_rounding.exact, own_rounding.first_difference
    found = verify_onnx(graph, data, samples, activations)
    assert found.values == own_rounding.values
    assert found.max_step <= 1, (found.per_op, found.first_difference)


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@FEW
@given(height=st.integers(1, 14), width=st.integers(1, 14), align_corners=st.booleans(), xz=zero_points, seed=seeds)
def test_bilinear_to_any_size_is_near(activations, height, width, align_corners, xz, seed) -> None:  # type: ignore[no-untyped-def]
    """onnxruntime cuts off what TFLite rounds, and TFLite's positions, in 1024ths, drift by half of one per pixel."""
    flow = Flow((1, 8, 6, 5), quantization(0.1, xz), seed)
    flow.add("y", Resize2d((height, width), "bilinear", align_corners))
    data = write_onnx(flow.graph(), activations=activations)
    found = verify_onnx(flow.graph(), data, flow.samples(5), activations)
    assert found.max_step <= 1.5 + 255 * (height + width) / 2048, found.first_difference


def test_relu_and_relu6_cost_nothing_when_the_grid_ends_where_they_do() -> None:
    flow = Flow((1, 4, 5, 5), quantization(0.02, 3))
    flow.weighted("y", Conv2d(activation=RELU6), (8, 4, 1, 1), quantization(6 / 255, -128))
    assert "Clip" not in optimized_census(write_onnx(flow.graph(), activations="uint8")).kinds


def test_a_grid_reaching_beyond_six_is_clipped_in_integers() -> None:
    flow = Flow((1, 4, 5, 5), quantization(0.5, 3))
    flow.weighted("y", Conv2d(activation=RELU6), (8, 4, 1, 1), quantization(6.5 / 255, -128))
    graph = flow.graph()
    data = write_onnx(graph, activations="int8")
    assert optimized_census(data).kinds == {
        "Clip": 1,
        "DequantizeLinear": 1,
        "QLinearConv": 1,
        "QuantizeLinear": 1,
        "Transpose": 2,
    }
    assert verify_onnx(graph, data, flow.samples(8), "int8", rounding="onnxruntime").exact


@pytest.mark.parametrize("filters", [5, 8, 16, 24])
@pytest.mark.parametrize("activation", [None, RELU6])
def test_a_first_convolution_is_written_for_direct_kernels_on_x86_only(filters, activation) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 8, 8), quantization(0.02, 3))
    flow.weighted("y", Conv2d((2, 2), (0, 1, 0, 1), activation=activation), (filters, 3, 3, 3), quantization(0.03, -5))
    graph = flow.graph()
    data = write_onnx(graph, activations="uint8")
    found = optimized_census(data)
    assert found.kinds["Pad"] == 1
    assert found.kinds.get("Slice", 0) == (filters < 16)
    assert (found.spatial_pads, found.float_ops) == (0, 0)
    for rounding in ("onnxruntime", "tflite"):
        checked = verify_onnx(graph, data, flow.samples(8), "uint8", rounding=rounding)  # type: ignore[arg-type]
        assert checked.values == 8 * int(np.prod(graph.shapes["y"]))
        assert checked.max_step <= (rounding == "tflite"), checked.first_difference
    assert "Pad" not in optimized_census(write_onnx(graph, activations="int8")).kinds


def test_three_channels_made_inside_the_network_run_too() -> None:
    """The fourth channel then is added between two fused convolutions, where onnxruntime moves its transposes."""
    flow = Flow((1, 3, 8, 8), quantization(0.02, 3))
    flow.weighted("inner", Conv2d(groups=3), (3, 1, 1, 1), quantization(0.03, -5))
    flow.weighted("y", Conv2d((2, 2), (0, 1, 0, 1)), (16, 3, 3, 3), quantization(0.05, 9), "inner")
    graph = flow.graph()
    samples = flow.samples(4)
    (made,) = OrtSession(write_onnx(graph, activations="uint8", io="uint8")).run_integers(samples)
    wanted = run(graph, graph.quantizations["x"].quantize(samples))["y"]
    assert np.abs(made.astype(int) - 128 - wanted).max() <= 1
