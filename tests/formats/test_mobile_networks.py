"""Squeeze-and-excitation and smooth activations from torch to both files: every op exact, nothing in float."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.student import Student
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
from edgeq.graph.ops import UNIT, Concat, HardSigmoid, Mul, Sigmoid
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.model.torchvision import import_torchvision
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST

RANGE = (-2.5, 2.5)


class Gated(nn.Module):
    """One of each: PReLU, SiLU, gates by sigmoid and hard sigmoid, hard swish by hand, tanh, GELU, and an odd clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.bent = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8))
        self.bent[1].weight.data = torch.linspace(-0.2, 0.9, 8)
        self.stem = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.SiLU())
        self.soft = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Sigmoid())
        self.hard = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.Hardsigmoid())
        self.left, self.right = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(16, 8, 1)
        self.last = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.bent(x))
        x = x * self.soft(x) - self.hard(x) * x
        left, right = torch.tanh(self.left(x)), 8 * self.right(x)
        right = right * nn.functional.relu6(right + 3) / 6
        joined = torch.cat([left, nn.functional.gelu(right), right.clamp(-0.25, 0.4)], 1)
        return self.last(joined)


def _module(name: str) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = Gated() if name == "gated" else import_torchvision().models.get_model(name, weights=None)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        module.train()(torch.randn(8, *SHAPES[name]))
    return module.eval()


SHAPES = {"gated": (3, 20, 17), "mobilenet_v3_small": (3, 48, 48)}


@cache
def decided(name: str) -> tuple[nn.Module, Graph, Calibration, IntegerGraph]:
    module = _module(name)
    graph = optimize(capture(module, SHAPES[name], name))
    found = calibrate(graph, images(name), RANGE, scheme=Scheme.of("w8a8", widest=WIDEST))
    return module, graph, found, freeze(graph, found).graph


def images(name: str, count: int = 4) -> CalibrationSet:
    noise = np.random.default_rng(0).normal(0, 1, (count, *SHAPES[name])).astype(np.float32)
    return CalibrationSet(np.clip(noise, *RANGE), np.full(count, -1, np.int64), "noise")


@pytest.mark.parametrize("name", SHAPES)
def test_tflite_is_exact_and_all_integer(name: str) -> None:
    integer = decided(name)[3]
    data = write_tflite(integer, io="int8")
    found = census(data)
    assert (found.float_ops, found.quantize, found.dequantize, found.transposes, found.spatial_pads) == (0,) * 5
    exactness = verify_tflite(integer, data, images(name).inputs[:1])
    assert exactness.exact, exactness.first_difference
    assert set(exactness.per_op) == {node.name for node in integer.nodes}


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("name", SHAPES)
def test_onnx_has_no_float_op_and_every_step_is_explained(name: str, activations: str) -> None:
    integer = decided(name)[3]
    data = write_onnx(integer, activations=activations)  # type: ignore[arg-type]
    found = optimized_census(data, activations)
    assert (found.float_ops, found.quantize, found.dequantize) == (0, 0, 0), found.kinds
    inputs = images(name).inputs[:1]
    near = verify_onnx(integer, data, inputs, activations)  # type: ignore[arg-type]
    assert near.max_step <= 1, near.first_difference
    own = verify_onnx(integer, data, inputs, activations, rounding="onnxruntime")  # type: ignore[arg-type]
    assert own.shares[0] > 0.9999, own.first_difference


@pytest.mark.parametrize("name", SHAPES)
def test_gates_cost_no_op_of_their_own(name: str) -> None:
    graph = decided(name)[1]
    gates = [node for node in graph.nodes if getattr(node.op, "activation", None) == UNIT]
    products = list(graph.of_kind(Mul))
    assert gates
    assert len(products) == len(gates) + len(list(graph.of_kind(Sigmoid, HardSigmoid)))


def test_what_is_joined_with_a_tanh_keeps_its_range() -> None:
    """The tanh is brought to the joint grid: GELU of 3 would be cut off at 1 on a tanh's."""
    _, graph, found, _ = decided("gated")
    (joined,) = graph.of_kind(Concat)
    assert joined.name in found.activations
    assert found.activations[joined.name].dequantize(np.array(127)) > 1.2


@pytest.mark.parametrize("name", SHAPES)
def test_float_files_compute_the_network(name: str) -> None:
    module, graph, _, _ = decided(name)
    inputs = images(name).inputs[:1]
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    for session in (OrtSession(write_onnx_float(graph)), LiteRTSession(write_tflite_float(graph))):
        (made,) = session.run(inputs)
        np.testing.assert_allclose(made, expected, atol=1e-3 * np.abs(expected).max())


def test_a_student_rounds_where_the_kernels_do() -> None:
    _, graph, found, integer = decided("gated")
    inputs = images("gated").inputs
    names = ["bent.1.prelu", "stem.1.sigmoid", "stem.1.mul", "soft.2", "hard.1", "mul"]
    (entry,) = integer.inputs
    exact = run(integer, integer.quantizations[entry].quantize(inputs))
    with torch.no_grad():
        seen = Student(graph, found).run(torch.from_numpy(inputs), keep=names)
    for name in names:
        assert np.mean(integer.quantizations[name].quantize(seen[name].numpy()) == exact[name]) > 0.9, name


def test_grids_that_kernels_fix_do_not_learn() -> None:
    _, graph, found, integer = decided("gated")
    student = Student(graph, found)
    student(torch.from_numpy(images("gated").inputs)).square().mean().backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad.sign()
    after = freeze(*student.frozen()).graph
    write_tflite(after)
    same = [name for name, q in after.quantizations.items() if q.scale.shape == () and q == integer.quantizations[name]]
    assert {*integer.inputs, "soft.2", "hard.1", "tanh"} <= set(same)
    assert "mul" not in same


def test_integers_are_close_to_the_float_network() -> None:
    _, graph, _, integer = decided("gated")
    inputs = images("gated").inputs
    with torch.no_grad():
        real = GraphModule(graph)(torch.from_numpy(inputs)).numpy()  # type: ignore[union-attr]
    (entry,), (end,) = integer.inputs, integer.outputs
    made = integer.quantizations[end].dequantize(run(integer, integer.quantizations[entry].quantize(inputs))[end])
    assert np.mean((made - real) ** 2) < 0.01 * np.mean(real**2)
