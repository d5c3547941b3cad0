"""Transposed convolution: torch's values after lowering, and exact integers in both formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.finetune.student import Student, agreement
from edgeq.formats.onnx.census import optimized_census
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Conv2d, ConvTranspose2d, Slice
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST
from tests.ops.flow import FEW, seeds

PIXELS = (-2.0, 2.0)
SHAPE = (8, 5, 6)


def images(count: int = 4) -> CalibrationSet:
    inputs = np.random.default_rng(3).uniform(*PIXELS, (count, *SHAPE)).astype(np.float32)
    return CalibrationSet(inputs, np.full(count, -1, np.int64), "uniform")


def lowered(module: nn.Module) -> Graph:
    return optimize(capture(module.eval(), SHAPE, "up"))


def calibrated(graph: Graph) -> Calibration:
    return calibrate(graph, images(), PIXELS, scheme=Scheme.of("w8a8", widest=WIDEST))


@st.composite
def layers(draw: st.DrawFn) -> nn.ConvTranspose2d:
    pair = st.tuples(st.integers(1, 5), st.integers(1, 5))
    kernel, stride = draw(pair), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    groups = draw(st.sampled_from([1, 2, 8]))
    outs = groups * draw(st.integers(1, 2))
    sizes = [
        (n - 1) * s - 2 * p + k + e for n, s, p, k, e in zip(SHAPE[1:], stride, padding, kernel, extra, strict=True)
    ]
    assume(min(sizes) > 0)
    torch.manual_seed(draw(seeds))
    return nn.ConvTranspose2d(8, outs, kernel, stride, padding, extra, groups, draw(st.booleans()))


@FEW
@given(layer=layers())
def test_any_form_is_torchs_and_exact(layer: nn.ConvTranspose2d) -> None:
    raw = capture(layer.eval(), SHAPE, "up")
    assert len(list(raw.of_kind(ConvTranspose2d))) == 1
    graph = optimize(raw)
    assert not list(graph.of_kind(ConvTranspose2d))
    inputs = images()
    wanted = layer(torch.from_numpy(inputs.inputs)).detach()
    for made in (raw, graph):
        torch.testing.assert_close(GraphModule(made)(torch.from_numpy(inputs.inputs)), wanted, rtol=1e-4, atol=1e-5)
    integer = freeze(graph, calibrated(graph)).graph
    found = verify_tflite(integer, write_tflite(integer), inputs.inputs)
    assert found.exact, found.first_difference
    data = write_onnx(integer, activations="uint8")
    assert verify_onnx(integer, data, inputs.inputs, "uint8", rounding="onnxruntime").exact
    near = verify_onnx(integer, data, inputs.inputs, "uint8")
    assert near.max_step <= 1, near.first_difference
    fused = optimized_census(data, "uint8")
    assert (fused.float_ops, fused.quantize, fused.dequantize) == (0, 0, 0)


def test_doubling_is_one_convolution_and_depth_to_space() -> None:
    graph = lowered(nn.ConvTranspose2d(8, 6, 2, 2))
    integer = freeze(graph, calibrated(graph)).graph
    assert dict(census(write_tflite(integer)).kinds) == {"CONV_2D": 1, "DEPTH_TO_SPACE": 1}


def test_batch_norm_and_activation_go_along() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    module = nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False), norm, nn.ReLU()).eval()
    graph = lowered(module)
    (conv,) = graph.of_kind(Conv2d)
    assert isinstance(conv.op, Conv2d)
    assert conv.op.activation is not None
    assert [type(node.op).__name__ for node in graph.nodes] == ["Conv2d", "Reshape", "Permute", "Reshape", "Slice"]
    x = torch.from_numpy(images().inputs)
    torch.testing.assert_close(GraphModule(graph)(x), module(x), rtol=1e-4, atol=1e-5)


def test_whole_strides_of_padding_cost_no_slice() -> None:
    assert not list(lowered(nn.ConvTranspose2d(8, 6, 6, 2, 2)).of_kind(Slice))


def test_the_student_is_what_is_frozen() -> None:
    graph = lowered(nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ReLU()))
    student = Student(graph, calibrated(graph))
    after, decided = student.frozen()
    found = agreement(student, freeze(after, decided).graph, images().inputs)
    assert (found.equal, found.largest_step) == (1.0, 0)


def test_float_files_hold_it_too() -> None:
    graph = lowered(nn.ConvTranspose2d(8, 6, 3, 2, 1, 1))
    assert census(write_tflite_float(graph)).kinds["CONV_2D"] == 1
    assert write_onnx_float(graph)


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(8, 6, 3, dilation=2)])
def test_other_forms_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="conv_transpose"):
        lowered(layer)
