"""Layers settled in order: each sees what really reaches it."""

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.run import GraphModule
from edgeq.quant import observe
from edgeq.quant.calibrate import calibrate
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation
from edgeq.quant.scheme import Scheme

RANGE = (-2.0, 2.0)


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {"a": weight(8, 3, 3, 3), "b": weight(8, 8, 3, 3), "c": weight(8, 1, 3, 3), "d": weight(5, 8)}
    constants["bias"] = rng.normal(0, 0.3, 8).astype(np.float32)
    same = (1, 1, 1, 1)
    nodes = (
        Node("one", Conv2d(padding=same, activation=RELU), ("x", "a", "bias")),
        Node("two", Conv2d(padding=same, activation=RELU), ("one", "b")),
        Node("three", Conv2d(padding=same, groups=8), ("two", "c")),
        Node("sum", Add(), ("three", "one")),
        Node("mean", GlobalAvgPool(), ("sum",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("four", Linear(), ("flat", "d")),
    )
    return Graph("net", ("x",), ("four",), nodes, constants, {"x": (1, 3, 8, 8)})


def images(count, seed):
    """Smooth ones, as pictures are: neighbours are alike."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (count, 3, 2, 2)).repeat(4, 2).repeat(4, 3) + rng.normal(0, 0.1, (count, 3, 8, 8))
    return CalibrationSet(np.clip(values, *RANGE).astype(np.float32), np.full(count, -1, np.int64), "test")


def gap(graph, decided, inputs):
    """Root mean square error of the last map, in units of its own."""
    shifted = dict(decided.bias_corrections)

    def visit(name, value):
        layer = name.removesuffix(LINEAR)
        if layer in shifted and name == (layer + LINEAR if layer in {"one", "two"} else layer):
            value = value + torch.from_numpy(shifted[layer]).view(1, -1, *([1] * (value.dim() - 2)))
        return fake_quantize(value, decided.activations[name]) if name in decided.activations else value

    x = torch.from_numpy(inputs)
    want = GraphModule(graph).run(x, keep=["sum"])["sum"]
    have = GraphModule(simulation(decided.rounded(graph), decided.weights)).run(x, visit, keep=["sum"])["sum"]
    return float((have - want).square().mean().sqrt() / want.square().mean().sqrt())


@pytest.mark.parametrize("bits", ["w4a8", "w3a8", "w4a6"])
def test_compensation_lowers_the_error_on_images_it_did_not_see(graph, bits):
    scheme = Scheme.of(bits, all_layers=True)
    plain, settled = (calibrate(graph, images(32, 1), RANGE, scheme=scheme, compensate=c) for c in (False, True))
    unseen = images(64, 2).inputs
    assert gap(graph, settled, unseen) < 0.9 * gap(graph, plain, unseen)


def test_the_float_twin_is_not_touched_by_its_partner(graph):
    """Bias corrections are differences of means to the network as it is, whatever happened to the twin."""
    scheme = Scheme.of("w8a8")
    decided = calibrate(graph, images(16, 1), RANGE, scheme=scheme)
    assert decided.constants == {}
    inputs = torch.from_numpy(images(16, 1).inputs)
    kept = GraphModule(simulation(graph, {})).run(inputs, keep=["three"])["three"].double().mean([0, 2, 3])
    corrected = {}

    def visit(name, value):
        layer = name.removesuffix(LINEAR)
        if layer in decided.bias_corrections and name == (layer + LINEAR if layer in {"one", "two"} else layer):
            value = value + torch.from_numpy(decided.bias_corrections[layer]).view(1, -1, *([1] * (value.dim() - 2)))
            corrected[layer] = value.double()
        return fake_quantize(value, decided.activations[name]) if name in decided.activations else value

    GraphModule(simulation(graph, decided.weights)).run(inputs, visit)
    torch.testing.assert_close(corrected["three"].mean([0, 2, 3]), kept, rtol=0, atol=1e-5)


def test_without_either_nothing_is_settled(graph):
    decided = calibrate(graph, images(8, 1), RANGE, scheme=Scheme.of("w4a8"), compensate=False, correct_bias=False)
    assert decided.constants == {}
    assert decided.bias_corrections == {}


@pytest.mark.parametrize("scheme", ["w8a8", "w4a4"])
def test_values_kept_are_those_of_another_run(graph, monkeypatch, scheme):
    """One run of the float network, where its values fit, decides what three do: for extremes, counts and biases."""
    runs = []
    monkeypatch.setattr(
        GraphModule, "run", lambda self, *a, run=GraphModule.run, **k: runs.append(1) or run(self, *a, **k)
    )

    def decided():
        runs.clear()
        return calibrate(graph, images(6, 1), RANGE, scheme=Scheme.of(scheme, all_layers=True)), len(runs)

    once, few = decided()
    monkeypatch.setattr(observe, "KEPT", 0)
    again, more = decided()
    assert (few, more) == (2, 3)  # the last is the rounded network, alone or beside the float one
    for one, other in ((once.activations, again.activations), (once.weights, again.weights)):
        assert {n: (q.scale.tolist(), q.zero_point.tolist()) for n, q in one.items()} == {
            n: (q.scale.tolist(), q.zero_point.tolist()) for n, q in other.items()
        }
    for mine, theirs in ((once.bias_corrections, again.bias_corrections), (once.constants, again.constants)):
        assert set(mine) == set(theirs)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])
