"""Calibration of values that are nothing: sums that cancel out, halves that are always 0."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Add, Clamp
from edgeq.graph.passes import optimize
from edgeq.integer.kernel_limits import LARGEST_RATIO
from edgeq.quant.calibrate import _bound, calibrate
from edgeq.quant.observe import collect, mse
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

RANGE = (-2.5, 2.5)


class Cancels(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        return x - x


class NeverBelow(nn.Module):
    """The lower half of a PReLU of what is never below 0."""

    def __init__(self):
        super().__init__()
        self.deep, self.bent = nn.Conv2d(3, 3, 3, groups=3, bias=False), nn.PReLU(3)
        self.bent.weight.data[:] = self.bent.weight.data.new_tensor([0.1, 0.2, 0.3])

    def forward(self, x):
        return self.bent(self.deep(x).sigmoid())


class MeanOfNothing(nn.Module):
    """What cancels out is joined with what does not, whose grid it takes; its mean has one of its own."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        nothing = x - x
        return torch.cat([x, nothing], 1), nothing.mean((2, 3))


@pytest.mark.parametrize("make", [Cancels, MeanOfNothing, NeverBelow])
def test_values_that_are_nothing_have_grids_that_kernels_take(make):
    graph = optimize(capture(make().eval(), (3, 8, 7), "net"))
    inputs = np.clip(np.random.default_rng(0).normal(0, 1, (4, 3, 8, 7)), *RANGE).astype(np.float32)
    images = CalibrationSet(inputs, np.full(4, -1, np.int64), "noise")
    integer = quantize(graph, images, RANGE, Scheme(7, 8))
    data = write_tflite(integer)
    assert census(data).float_ops == 0
    assert verify_tflite(integer, data, inputs).exact
    for activations in ("uint8", "int8"):
        data = write_onnx(integer, activations=activations)
        assert optimized_census(data, activations).float_ops == 0
        assert verify_onnx(integer, data, inputs, activations).max_step <= 1
    assert LiteRTSession(write_tflite_float(graph)).run(inputs[:1])[0].shape == graph.shapes[graph.outputs[0]]


def test_a_sum_that_cancels_is_no_finer_than_can_be_told():
    graph = optimize(capture(Cancels().eval(), (3, 8, 7), "net"))
    inputs = np.random.default_rng(0).uniform(*RANGE, (2, 3, 8, 7)).astype(np.float32)
    found = calibrate(graph, CalibrationSet(inputs, np.full(2, -1, np.int64), "n"), RANGE, scheme=Scheme()).activations
    parts = max(float(found[name].scale) for name in graph.node("add").inputs)
    assert float(found["add"].scale) == pytest.approx(2 * parts / LARGEST_RATIO["int8"].get(Add()))


def test_ranges_keep_what_is_small_and_constants_have_one() -> None:
    for value in (1e10, 1.0, 1e-9):
        graph = Graph("net", ("x",), ("y",), (Node("y", Clamp(-np.inf, 0.0), ("x",)),), {}, {"x": (1, 4, 2, 2)})
        inputs = np.full((2, 4, 2, 2), -value, np.float32)
        found = collect(graph, {"y": ("y",)}, CalibrationSet(inputs, np.full(2, -1, np.int64), "n"))["y"]
        low, high = mse(found, 256, None)
        assert low == pytest.approx(-value, rel=0.02)
        assert _bound(found, low, high, 0.0) == (low, 0.0)
