"""What `kernel_limits` allows, every kernel computes; what it does not, is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.session import KERNELS, LiteRTSession
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import RELU, Add, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear, MeanSquare, Mul, Op, Reshape
from edgeq.integer.graph import Quantization
from edgeq.integer.kernel_limits import LARGEST_RATIO, SMALLEST_MEAN, check_kernels, largest_sums
from edgeq.integer.reference import run
from tests.host import LARGEST
from tests.ops.flow import Flow, assert_exact, quantization

SHAPE = (1, 4, 6, 5)
X = quantization(0.05, 3)
LAYERS: dict[str, tuple[Op, tuple[int, ...]]] = {
    "conv": (Conv2d(padding=(1, 1, 1, 1)), (6, 4, 3, 3)),
    "depthwise": (Conv2d(padding=(1, 1, 1, 1), groups=4), (4, 1, 3, 3)),
    "linear": (Linear(), (5, 120)),
}
OTHERS: dict[str, Op] = {
    "clamp": RELU,
    "leaky": LeakyReLU(0.1),
    "bent down": LeakyReLU(-0.3),
    "mean": GlobalAvgPool(),
    "add": Add(),
    "mul": Mul(),
    "mean of squares": MeanSquare(1e-5),
}


def layer(name: str, ratio: float) -> Flow:
    """One channel of this ratio among others; its sums are small enough for a shift to the left."""
    flow = Flow(SHAPE, X, 1)
    op, shape = LAYERS[name]
    source = "x" if name != "linear" else flow.add("flat", Reshape((120,)))
    flow.weighted("y", op, shape, quantization(0.05, -4), source)
    scale = flow.quantizations["y.weight"].scale.copy()
    scale[1] = ratio
    zeros = np.zeros(len(scale), np.int32)
    flow.quantizations["y.weight"] = Quantization(scale, zeros, "int8", 0)
    flow.quantizations["y.bias"] = Quantization(X.scale * scale, zeros, "int32", 0)
    weight, bias = flow.constants["y.weight"], flow.constants["y.bias"]
    if ratio > 1:
        weight[1] = np.sign(weight[1]) * (np.abs(weight[1]) > 0.8 * LARGEST)
    bias[1] = 0 if ratio > 1 else min(60 / ratio, 2**30)
    return flow


def other(name: str, ratio: float) -> Flow:
    flow = Flow(SHAPE, X, 1)
    op, x = OTHERS[name], float(X.scale)
    unit = {"mul": x * x, "mean of squares": x * x / 4}.get(name, x)
    zero = -128 if isinstance(op, (Clamp, MeanSquare)) else -4
    flow.add("y", op, *(("x", "x") if isinstance(op, (Add, Mul)) else ("x",)), q=quantization(unit / ratio, zero))
    return flow


def ratios(op: Op) -> list[float]:
    return [*([] if isinstance(op, GlobalAvgPool) else [2.0**-45]), 2.0**-20, LARGEST_RATIO["int8"].get(op) / 2]


@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_all_kernels_take_what_is_allowed(name: str) -> None:
    op = LAYERS[name][0] if name in LAYERS else OTHERS[name]
    for ratio in ratios(op):
        flow = layer(name, ratio) if name in LAYERS else other(name, ratio)
        graph = flow.graph()
        check_kernels(graph)
        assert_exact(flow)
        inputs = flow.samples(2)
        want = run(graph, graph.quantizations["x"].quantize(inputs))["y"].astype(int)
        for kernels in KERNELS:
            got = LiteRTSession(write_tflite(graph), kernels=kernels).run_integers(inputs)[0]
            assert np.abs(got.astype(int) - want).max() <= 1, (ratio, kernels)
        for activations in ("uint8", "int8"):
            found = verify_onnx(graph, write_onnx(graph, activations=activations), inputs, activations)
            assert found.max_step <= 1, (ratio, activations)


@pytest.mark.parametrize("name", [*LAYERS, *OTHERS])
def test_what_some_kernel_refuses_or_gets_wrong_is_refused(name: str) -> None:
    op = LAYERS[name][0] if name in LAYERS else OTHERS[name]
    limit = LARGEST_RATIO["int8"].get(op) * 1.01
    flow = layer(name, limit) if name in LAYERS else other(name, limit)
    with pytest.raises(UnsupportedError, match="times finer than its inputs'") as caught:
        check_kernels(flow.graph())
    assert caught.value.where == "y"


def test_means_are_taken_down_to_what_onnxruntime_takes() -> None:
    flow = other("mean", SMALLEST_MEAN * 30 * 2)
    verify_onnx(flow.graph(), write_onnx(flow.graph(), activations="uint8"), flow.samples(2), "uint8")


def test_sums_that_leave_32_bits_are_refused() -> None:
    flow = layer("linear", 1.0)
    flow.constants["y.bias"][1] = 2**31 - 1 - 1000
    with pytest.raises(UnsupportedError, match="sums of Linear may reach"):
        check_kernels(flow.graph())


def test_largest_sums_are_those_of_the_worst_inputs() -> None:
    weight, bias = np.array([[1, -2, 3], [0, 0, 0]], np.int8), np.array([7, -9], np.int32)
    corners = np.array(np.meshgrid(*[[-128, 127]] * 3)).reshape(3, -1) - 3
    np.testing.assert_array_equal(largest_sums(weight, bias, X), np.abs(weight @ corners + bias[:, None]).max(1))
