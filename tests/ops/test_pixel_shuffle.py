"""Sub-pixel convolution: one DEPTH_TO_SPACE in TFLite, torch's values, exact integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.export.onnx import optimized_census, write_onnx
from edgeq.export.tflite import census, write_tflite
from edgeq.graph.capture import capture
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.measure.verify import verify_tflite
from edgeq.measure.verify_onnx import verify_onnx
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze

PIXELS = (-2.0, 2.0)
SHAPE = (3, 6, 5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("r", "tail", "moves"),
    [
        (2, [nn.PixelShuffle(2)], {"DEPTH_TO_SPACE": 1}),
        (3, [nn.ReLU(), nn.PixelShuffle(3)], {"DEPTH_TO_SPACE": 1}),
        (2, [nn.MaxPool2d(1, 1), nn.PixelShuffle(2)], {"TRANSPOSE": 1}),
    ],
    ids=["alone", "behind a relu", "behind what is no convolution"],
)
def test_sub_pixel_convolution(r: int, tail: list[nn.Module], moves: dict[str, int], bias: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4 * r * r, 3, padding=1, bias=bias), *tail).eval()
    graph = optimize(capture(module, SHAPE, "up"))
    inputs = np.random.default_rng(3).uniform(*PIXELS, (4, *SHAPE)).astype(np.float32)
    x = torch.from_numpy(inputs)
    torch.testing.assert_close(GraphModule(graph)(x), module(x).detach(), rtol=1e-4, atol=1e-5)
    images = CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "uniform")
    integer = freeze(graph, calibrate(graph, images, PIXELS, scheme=Scheme())).graph
    data = write_tflite(integer)
    kinds = census(data).kinds
    assert {k: kinds[k] for k in ("DEPTH_TO_SPACE", "TRANSPOSE") if k in kinds} == moves
    found = verify_tflite(integer, data, inputs)
    assert found.exact, found.first_difference
    onnx = write_onnx(integer, activations="uint8")
    assert verify_onnx(integer, onnx, inputs, "uint8").max_step <= 1
    assert optimized_census(onnx, "uint8").float_ops == 0
