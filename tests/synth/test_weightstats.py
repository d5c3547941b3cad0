"""Statistics out of weights: the published recursion checked by hand, correct moments against sampling."""

import itertools

import numpy as np
import pytest
import torch

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    GELU,
    RELU,
    RELU6,
    Add,
    Clamp,
    Concat,
    Conv2d,
    HardSwish,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    Mul,
    Reshape,
    Sigmoid,
    Slice,
    Tanh,
)
from edgeq.graph.run import GraphModule
from edgeq.synth.gzsq_literal import z_score
from edgeq.synth.losses import Moments
from edgeq.synth.weightstats import ADJUSTMENTS, estimate_faithful, estimate_moments


def chain(channels, *, bias=False, activation=None, seed=0):
    """Convolutions one after the other over these channel counts."""
    rng = np.random.default_rng(seed)
    constants, nodes, last = {}, [], "x"
    for index, (before, after) in enumerate(itertools.pairwise(channels)):
        constants[f"w{index}"] = rng.normal(0.05, 0.3, (after, before, 3, 3)).astype(np.float32)
        names = [last, f"w{index}"]
        if bias:
            constants[f"b{index}"] = rng.normal(0, 0.5, after).astype(np.float32)
            names.append(f"b{index}")
        nodes.append(Node(f"c{index}", Conv2d(padding=(1, 1, 1, 1), activation=activation), tuple(names)))
        last = f"c{index}"
    return Graph("net", ("x",), (last,), tuple(nodes), constants, {"x": (1, channels[0], 12, 12)})


def test_equal_channels_give_prefix_sums_and_deviations_never_fall():
    graph = chain([4, 4, 4, 4], bias=True)
    found = estimate_faithful(graph)
    flat = [graph.constants[f"w{i}"].reshape(4, -1).astype(np.float64) for i in range(3)]
    biases = [graph.constants[f"b{i}"].astype(np.float64) for i in range(3)]
    np.testing.assert_allclose(found["c2"].mean, sum(w.mean(1) for w in flat) + sum(biases))
    np.testing.assert_allclose(found["c2"].std ** 2, 1 + sum(w.var(1) for w in flat))
    deviations = [found[f"c{i}"].std for i in range(3)]
    assert all((later >= earlier).all() for earlier, later in itertools.pairwise(deviations))


@pytest.mark.parametrize(("channels", "which"), [([3, 8], "expansion"), ([8, 3], "contraction")])
def test_adjustment_stands_in_where_the_channel_count_changes(channels, which):
    graph = chain([channels[0], *channels])
    weight = graph.constants["w1"].reshape(channels[1], -1).astype(np.float64)
    before = estimate_faithful(graph)["c0"]
    for name, rule in ADJUSTMENTS.items():
        found = estimate_faithful(graph, **{which: (name, "mean")})["c1"]
        np.testing.assert_allclose(found.mean, weight.mean(1) + rule(before.mean))


@pytest.mark.parametrize("activation", [None, RELU, RELU6])
def test_moments_agree_with_sampling(activation):
    """One layer of independent Gaussian inputs, its activation, and another layer: within sampling error."""
    rng = np.random.default_rng(0)
    constants = {
        "w0": rng.normal(0, 0.2, (16, 64)).astype(np.float32),
        "b0": rng.normal(1, 2, 16).astype(np.float32),
    }
    nodes = [Node("a", Linear(activation=activation), ("x", "w0", "b0"))]
    graph = Graph("net", ("x",), ("a",), tuple(nodes), constants, {"x": (1, 64)})
    found = estimate_moments(graph)["a"]
    inputs = torch.randn(200_000, 64, generator=torch.Generator().manual_seed(0))
    linear = inputs.double() @ torch.from_numpy(constants["w0"]).double().T + torch.from_numpy(constants["b0"])
    np.testing.assert_allclose(found.mean, linear.mean(0), atol=0.02)
    np.testing.assert_allclose(found.std, linear.std(0), rtol=0.02)


@pytest.mark.parametrize("op", [RELU, RELU6, LeakyReLU(0.1), Clamp(-1.0, 2.0), HardSwish(), GELU(), Sigmoid(), Tanh()])
def test_clipped_gaussian_moments(op):
    """An identity convolution behind the activation shows the activation's own moments."""
    constants = {
        "w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * np.float32(2.0),
        "b": np.array([-1.5, 0.0, 4.0], np.float32),
        "i": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
    }
    nodes = (Node("a", Conv2d(), ("x", "w", "b")), Node("f", op, ("a",)), Node("c", Conv2d(), ("f", "i")))
    graph = Graph("net", ("x",), ("c",), nodes, constants, {"x": (1, 3, 4, 4)})
    found = estimate_moments(graph)["c"]
    sample = torch.randn(20_000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = GraphModule(graph)(sample).double()
    np.testing.assert_allclose(found.mean, seen.mean((0, 2, 3)), atol=0.01)
    np.testing.assert_allclose(found.std, seen.std((0, 2, 3)), rtol=0.01)


def test_a_silu_is_no_product_of_independent_values_but_a_gate_is():
    constants = {
        "w": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1) * np.float32(3.0),
        "i": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
    }
    nodes = (
        Node("a", Conv2d(), ("x", "w")),
        Node("s", Sigmoid(), ("a",)),
        Node("silu", Mul(), ("s", "a")),
        Node("c", Conv2d(), ("silu", "i")),
        Node("gate", Slice((0, 0, 0, 0), (1, 2, 1, 1), (1, 1, 1, 1)), ("x",)),
        Node("gated", Mul(), ("gate", "x")),
        Node("d", Conv2d(), ("gated", "i")),
    )
    graph = Graph("net", ("x",), ("c", "d"), nodes, constants, {"x": (1, 2, 8, 8)})
    found = estimate_moments(graph)
    sample = torch.randn(20_000, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = GraphModule(graph).run(sample)
    np.testing.assert_allclose(found["c"].mean, seen["c"].double().mean((0, 2, 3)), atol=0.01)
    np.testing.assert_allclose(found["c"].std, seen["c"].double().std((0, 2, 3)), rtol=0.01)
    np.testing.assert_allclose(found["d"].std, seen["d"].double().std((0, 2, 3)), rtol=0.02)


def test_a_prelu_is_the_larger_of_dependent_values():
    constants = {
        "w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * np.float32(2.0),
        "b": np.array([-1.5, 0.0, 4.0], np.float32),
        "slope": np.array([0.3, -0.8, 0.0], np.float32).reshape(3, 1, 1, 1),
        "i": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
    }
    nodes = (
        Node("a", Conv2d(), ("x", "w", "b")),
        Node("times", Conv2d(groups=3), ("a", "slope")),
        Node("prelu", Maximum(), ("a", "times")),
        Node("c", Conv2d(), ("prelu", "i")),
    )
    graph = Graph("net", ("x",), ("c",), nodes, constants, {"x": (1, 3, 4, 4)})
    found = estimate_moments(graph)["c"]
    sample = torch.randn(20_000, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    seen = GraphModule(graph)(sample).double()
    np.testing.assert_allclose(found.mean, seen.mean((0, 2, 3)), atol=0.01)
    np.testing.assert_allclose(found.std, seen.std((0, 2, 3)), rtol=0.01)


def test_sums_joins_pools_and_flattening():
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "fc.w": rng.normal(size=(2, 128)).astype(np.float32),
    }
    nodes = (
        Node("a", Conv2d(), ("x", "w")),
        Node("sum", Add(), ("a", "a")),
        Node("join", Concat(1), ("sum", "a")),
        Node("pool", MaxPool2d(), ("join",)),
        Node("flat", Reshape((128,)), ("pool",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    graph = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})
    found = estimate_moments(graph)
    a = found["a"]
    joined = np.concatenate([np.hypot(a.std, a.std), a.std])
    expected = constants["fc.w"].astype(np.float64) ** 2 @ np.repeat(joined, 16) ** 2
    np.testing.assert_allclose(found["fc"].std ** 2, expected)
    assert set(estimate_faithful(graph)) == {"a", "fc"}


def test_z_score_is_zero_where_means_agree_and_falls_with_spread():
    def at(mean, var):
        return Moments(torch.tensor([mean]), torch.tensor([var]))

    assert float(z_score(at(1.0, 2.0), at(1.0, 5.0))) == 0.0
    assert float(z_score(at(1.0, 1.0), at(0.0, 1.0))) == pytest.approx(1 / np.sqrt(2), rel=1e-4)
    assert float(z_score(at(1.0, 4.0), at(0.0, 1.0))) < float(z_score(at(1.0, 1.0), at(0.0, 1.0)))
