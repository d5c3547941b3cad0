"""16-bit activations from calibration to file: symmetric grids, int64 biases, exact, and closer than 8 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    ELU,
    GELU,
    NEGATIVE,
    RELU,
    UNIT,
    Add,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    HardSwish,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Mish,
    Mul,
    Op,
    Reshape,
    Sigmoid,
    Softplus,
)
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.kernel_limits import check_kernels
from edgeq.integer.reference import run
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import grid, specify
from tests.ops.flow import Flow, assert_exact, wide

RANGE = (-1.0, 2.0)


def network(gate: Op | None = None) -> Graph:
    """A stem, a residual block gated by a SiLU (or `gate`), a hard-sigmoid branch joined in, pools, a classifier."""
    rng = np.random.default_rng(5)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "stem.w": weight(8, 3, 3, 3),
        "depth.w": weight(8, 1, 3, 3),
        "point.w": weight(8, 8, 1, 1),
        "side.w": weight(4, 8, 1, 1),
        "fc.w": weight(5, 12),
        "stem.b": rng.normal(0, 0.3, 8).astype(np.float32),
        "side.b": rng.normal(0, 0.3, 4).astype(np.float32),
    }
    same = (1, 1, 1, 1)
    nodes = (
        Node("stem", Conv2d((2, 2), same, activation=RELU), ("x", "stem.w", "stem.b")),
        Node("depth", Conv2d(padding=same, groups=8), ("stem", "depth.w")),
        *(
            (Node("sigmoid", Sigmoid(), ("depth",)), Node("gated", Mul(), ("depth", "sigmoid")))
            if gate is None
            else (Node("gated", gate, ("depth",)),)
        ),
        Node("point", Conv2d(), ("gated", "point.w")),
        Node("sum", Add(RELU), ("point", "stem")),
        Node("side", Conv2d(activation=UNIT), ("sum", "side.w", "side.b")),
        Node("pool", MaxPool2d((2, 2), (2, 2)), ("sum",)),
        Node("mean", GlobalAvgPool(), ("pool",)),
        Node("side.mean", GlobalAvgPool(), ("side",)),
        Node("both", Concat(1), ("mean", "side.mean")),
        Node("flat", Reshape((12,)), ("both",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 12, 12)})


def images(count: int, seed: int) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0, 1, (count, 3, 12, 12)), *RANGE).astype(np.float32)


def frozen(bits: str, graph: Graph | None = None) -> IntegerGraph:
    graph = graph or network()
    given = CalibrationSet(images(16, 0), np.full(16, -1, np.int64), "test")
    return quantize(graph, given, RANGE, Scheme.of(bits))


@pytest.mark.parametrize("bits", ["w8a16", "w4a16"])
def test_a_network_is_exact_and_survives_saving(bits: str, tmp_path: Path) -> None:
    integer = frozen(bits)
    (tmp_path / "integer.safetensors").write_bytes(integer.to_bytes())
    integer = IntegerGraph.load(tmp_path / "integer.safetensors")
    assert integer.activation_types == {"int16"}
    assert {integer.quantizations[n].dtype for n in ("stem.w", "stem.b")} == {"int8", "int64"}
    assert integer.constants["stem.b"].dtype == np.int64
    assert all(int(integer.quantizations[node.name].zero_point) == 0 for node in integer.nodes)
    for io in ("int16", "float32"):
        found = verify_tflite(integer, write_tflite(integer, io=io), images(6, 1))
        assert found.exact, found.first_difference
    assert integer.narrow() == ()


def test_sixteen_bits_are_closer_than_eight() -> None:
    """With these weights rounded alike, what is left is the activations' rounding: 8 bits less of it."""
    inputs, graph = images(16, 2), network()
    errors = {}
    for bits in ("w8a8", "w8a16"):
        integer = frozen(bits)
        weights = {
            name: integer.constants[name].astype(np.float32)
            * integer.quantizations[name].scale.reshape(-1, *([1] * (integer.constants[name].ndim - 1)))
            for name in graph.constants
        }
        biases = {
            node.inputs[2]: integer.constants[node.inputs[2]] * integer.quantizations[node.inputs[2]].scale
            for node in integer.nodes
            if isinstance(node.op, (Conv2d, Linear))
        }
        named = {name: value.astype(np.float32) for name, value in (weights | biases).items()}
        rounded = graph.replace(nodes=integer.nodes, constants=named)
        with torch.no_grad():
            real = GraphModule(rounded)(torch.from_numpy(inputs)).numpy()
        logits = integer.quantizations["fc"].dequantize(run(integer, integer.quantizations["x"].quantize(inputs))["fc"])
        errors[bits] = float(np.square(logits - real).mean() / real.var())
    assert errors["w8a16"] < errors["w8a8"] / 1000


def test_grids_of_16_bits_are_symmetric() -> None:
    for low, high in ((-1.0, 3.0), (-3.0, 1.0), (0.0, 3.0), (1.0, 3.0)):
        q = grid(low, high, 16)
        assert (int(q.zero_point), q.dtype, q.bits) == (0, "int16", None)
        assert float(q.scale) == pytest.approx(3.0 / 32767)


@pytest.mark.parametrize("op", [HardSwish(), Clamp(-1.0, 1.0), Clamp(0.0, 4.0), GELU()])
def test_other_activation_functions_are_exact_too(op: Op) -> None:
    integer = frozen("w8a16", optimize(network(op)))
    found = verify_tflite(integer, write_tflite(integer), images(4, 3))
    assert found.exact, found.first_difference


def test_a_layer_that_ends_at_0_from_below_is_exact() -> None:
    """Half of a PReLU with a slope per channel."""
    graph = network()
    nodes = tuple(
        replace(node, op=replace(node.op, activation=NEGATIVE)) if node.name in ("depth", "fc") else node
        for node in graph.nodes
    )
    integer = frozen("w8a16", graph.replace(nodes=nodes))
    found = verify_tflite(integer, write_tflite(integer), images(4, 3))
    assert found.exact, found.first_difference
    made = run(integer, integer.quantizations["x"].quantize(images(4, 3)))
    assert all(made[name].max() == 0 > made[name].min() for name in ("depth", "fc"))


@pytest.mark.parametrize("name", ["depth", "gated", "sum", "mean", "side.mean"])
def test_a_grid_too_fine_for_its_kernel_is_made_coarser(name: str) -> None:
    """LiteRT's ADD would abort the process, the others overflow without a word."""
    graph = network()
    given = CalibrationSet(images(4, 0), np.full(4, -1, np.int64), "test")
    decided = calibrate(graph, given, RANGE, scheme=Scheme.of("w8a16"))
    grids = dict(decided.activations)
    grids[name] = replace(grids[name], scale=grids[name].scale * np.float32(2.0**-32))
    integer = freeze(graph, replace(decided, activations=grids)).graph
    assert integer.quantizations[name].scale > grids[name].scale
    found = verify_tflite(integer, write_tflite(integer), images(2, 1))
    assert found.exact, found.first_difference


def test_the_finest_grids_that_pass_are_exact() -> None:
    """Just inside the limits; `check_kernels` holds what `freeze` lets through to them."""
    for op, inputs, ratio in (
        (Mul(), ("x", "x"), 0.99),
        (Add(), ("x", "x"), 2.0**14 * 0.99),
        (LeakyReLU(0.1), ("x",), 2.0**14 * 0.99),
        (RELU, ("x",), 2.0**14 * 0.99),
        (GlobalAvgPool(), ("x",), 2.0**14 * 0.99),
    ):
        flow = Flow((1, 3, 5, 4), wide(0.2), 3)
        made = float(flow.entry.scale) ** 2 if isinstance(op, Mul) else float(flow.entry.scale)
        made *= 2 if isinstance(op, Add) else 1
        flow.add("y", op, *inputs, q=wide(256 * made / ratio))
        check_kernels(flow.graph())
        flow.samples = lambda count=1, f=flow: f.entry.dequantize(f.rng.integers(-9, 10, (count, 3, 5, 4)))  # type: ignore[method-assign,misc]
        assert_exact(flow)
        flow.quantizations["y"] = wide(256 * made / ratio / 1.02)
        with pytest.raises(UnsupportedError, match="onto a 16-bit grid"):
            check_kernels(flow.graph())
    flow = Flow((1, 4, 5, 5), wide(0.2), 3)
    flow.weighted("conv", Conv2d(), (6, 4, 1, 1), wide(0.2), bias=False)
    flow.quantizations["conv.weight"] = Quantization(
        np.full(6, 2.0**14 * 0.99, np.float32), np.zeros(6, np.int32), "int8", 0
    )
    flow.constants["conv.weight"] //= 64
    flow.samples = lambda count=1: flow.entry.dequantize(flow.rng.integers(-1, 2, (count, 4, 5, 5)))  # type: ignore[method-assign]
    check_kernels(flow.graph())
    assert_exact(flow)


def test_onnx_files_have_none() -> None:
    with pytest.raises(UnsupportedError, match="16-bit activations in an ONNX file"):
        write_onnx(frozen("w8a16"), activations="uint8")


@pytest.mark.parametrize("op", [ELU(), Mish(), Softplus()])
def test_functions_that_are_looked_up_are_refused_before_any_work(op: Op) -> None:
    graph = optimize(network(op))
    with pytest.raises(UnsupportedError, match=f"{type(op).__name__} of 16-bit"):
        specify(graph, RANGE, Scheme(8, 16))
    assert specify(graph, RANGE, Scheme(8, 8))
