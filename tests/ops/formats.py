"""A function of one picture through the whole line, into both formats: torch's values, LiteRT's and onnxruntime's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST

__all__ = ["Forward", "both_formats"]

PIXELS = (-2.0, 2.0)


class Forward(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function  # a module stays one, so that its parameters are known

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@torch.no_grad()
def both_formats(function: Callable[[Tensor], Tensor], shape: tuple[int, int, int]) -> dict[str, int]:
    """Torch's values from the graph, LiteRT's from the reference, onnxruntime within a step; the TFLite file's ops."""
    inputs = np.random.default_rng(3).uniform(*PIXELS, (4, *shape)).astype(np.float32)
    graph = optimize(capture(Forward(function), shape, "net"))
    x = torch.from_numpy(inputs)
    torch.testing.assert_close(GraphModule(graph)(x), function(x), rtol=1e-4, atol=1e-5)
    images = CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "uniform")
    integer = quantize(graph, images, PIXELS, Scheme.of("w8a8", widest=WIDEST))
    data = write_tflite(integer)
    found = verify_tflite(integer, data, inputs)
    assert found.exact, found.first_difference
    onnx = write_onnx(integer, activations="uint8")
    near = verify_onnx(integer, onnx, inputs, "uint8")
    assert near.max_step <= 1, near.first_difference
    assert optimized_census(onnx, "uint8").float_ops == 0
    return dict(census(data).kinds)
