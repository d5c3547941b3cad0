"""Networks with attention from torch to both files: every op exact, nothing in float, no transpose but those needed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
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
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from tests.graph.attention_networks import ATTENTION, weighted
from tests.host import WIDEST

RANGE, SHAPE = (-2.5, 2.5), (3, 16, 16)
TRANSPOSES = {
    "vit": 4,
    "swin": 7,
    "mobilevit": 5,
    "yolo11": 6,
    "cait": 6,
    "xcit": 6,
    "efficientvit": 3,
    "mobilevitv2": 2,
    "pvt": 3,
    "einsum": 4,
    "encoder": 2,
    "nonlocal": 0,
    "latent": 3,
}
"""Most TRANSPOSE ops of a TFLite file."""


def images(count: int = 4) -> CalibrationSet:
    noise = np.random.default_rng(0).normal(0, 1, (count, *SHAPE)).astype(np.float32)
    return CalibrationSet(np.clip(noise, *RANGE), np.full(count, -1, np.int64), "noise")


@cache
def captured(name: str) -> tuple[nn.Module, Graph]:
    torch.manual_seed(0)
    module = weighted(ATTENTION[name]())
    return module, optimize(capture(module, SHAPE, name))


@cache
def decided(name: str, bits: str = "w8a8") -> IntegerGraph:
    graph = captured(name)[1]
    return freeze(graph, calibrate(graph, images(), RANGE, scheme=Scheme.of(bits, widest=WIDEST))).graph


@pytest.mark.parametrize("name", ATTENTION)
def test_the_graph_is_the_network(name: str) -> None:
    """60 dB at least, for more than one image."""
    module, graph = captured(name)
    x = torch.from_numpy(images(3).inputs)
    with torch.no_grad():
        expected, got = module(x), GraphModule(graph)(x)
    assert isinstance(got, torch.Tensor)
    assert float((got - expected).square().mean()) < 1e-6 * float(expected.square().mean())


@pytest.mark.parametrize("name", TRANSPOSES)
def test_tflite_is_exact_and_all_integer(name: str) -> None:
    integer = decided(name)
    data = write_tflite(integer, io="int8")
    found = census(data)
    assert (found.float_ops, found.quantize, found.dequantize) == (0, 0, 0)
    assert found.transposes <= TRANSPOSES[name]
    exactness = verify_tflite(integer, data, images().inputs[:1])
    assert exactness.exact, exactness.first_difference


@pytest.mark.parametrize("name", TRANSPOSES)
def test_onnx_has_no_float_op_and_every_step_is_explained(name: str) -> None:
    integer = decided(name)
    data = write_onnx(integer, activations="int8")
    found = optimized_census(data, "int8")
    assert (found.float_ops, found.quantize, found.dequantize) == (0, 0, 0), found.kinds
    near = verify_onnx(integer, data, images().inputs[:1], "int8")
    assert near.max_step <= 1, near.first_difference
    own = verify_onnx(integer, data, images().inputs[:1], "int8", rounding="onnxruntime")
    assert own.shares[0] > 0.9999, own.first_difference


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_float_files_compute_the_network(name: str) -> None:
    module, graph = captured(name)
    inputs = images().inputs[:1]
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    for session in (OrtSession(write_onnx_float(graph)), LiteRTSession(write_tflite_float(graph))):
        (made,) = session.run(inputs)
        np.testing.assert_allclose(made, expected, atol=1e-3 * np.abs(expected).max())
