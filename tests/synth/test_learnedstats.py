"""Statistics out of learned weights: the biases of a layer say what its input was in training."""

import numpy as np
import pytest
import torch

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Clamp, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.run import GraphModule
from edgeq.synth import learnedstats
from edgeq.synth.learnedstats import Prior, estimate_learned, statistics_layers
from edgeq.synth.losses import batch_moments
from edgeq.synth.pictures import dead_leaves

RELU_OP = Clamp(0.0, float("inf"))
TRAINED_ON = 0.2, 1.0
"""Brightness added to the pictures that the network was centred on, and their contrast."""


def pictures(count=16, *, trained=False):
    brightness, contrast = TRAINED_ON if trained else (0.0, 1.0)
    return torch.from_numpy(dead_leaves(count, (3, 24, 24), 5)) * contrast + brightness


def centred(depth=3, width=24, groups=1):
    """Convolutions and ReLUs. Biases bring the outputs of the training pictures to mean 0 and deviation 1."""
    rng = np.random.default_rng(0)
    constants, nodes, value, last, before = {}, [], pictures(trained=True), "x", 3
    for index in range(depth):
        group = groups if index else 1
        kernel = torch.from_numpy(rng.normal(0.02, 0.3, (width, before // group, 3, 3)).astype(np.float32))
        made = torch.nn.functional.conv2d(value, kernel, padding=1, groups=group)
        moments = batch_moments(made)
        std = moments.var.sqrt()
        constants[f"w{index}"] = (kernel / std.view(-1, 1, 1, 1)).numpy()
        constants[f"b{index}"] = (-moments.mean / std).numpy()
        nodes.append(Node(f"c{index}", Conv2d(padding=(1, 1, 1, 1), groups=group), (last, f"w{index}", f"b{index}")))
        nodes.append(Node(f"r{index}", RELU_OP, (f"c{index}",)))
        value = ((made - moments.mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)).relu()
        last, before = f"r{index}", width
    constants["fc"] = rng.normal(size=(4, width)).astype(np.float32)
    nodes += [
        Node("pool", GlobalAvgPool(), (last,)),
        Node("flat", Reshape((width,)), ("pool",)),
        Node("head", Linear(), ("flat", "fc")),
    ]
    return Graph("net", ("x",), ("head",), tuple(nodes), constants, {"x": (1, 3, 24, 24)})


def shown(graph, images):
    seen = {}
    GraphModule(graph).run(images, visit=lambda name, value: seen.__setitem__(name, batch_moments(value)))
    return seen


@pytest.mark.parametrize("groups", [1, 4, 24])
def test_biases_correct_what_other_pictures_show(groups):
    """The network was centred on brighter pictures than those it is shown: its layers had mean 0 and deviation 1."""
    graph = centred(groups=groups)
    found, plain = estimate_learned(graph, pictures()), shown(graph, pictures())
    assert list(found) == ["c0", "c1", "c2"]
    for name, statistics in found.items():
        assert np.abs(statistics.mean).mean() < 0.2 * float(plain[name].mean.abs().mean())
        assert statistics.mean.shape == statistics.std.shape == (24,)


def test_without_evidence_the_estimate_is_what_the_pictures_show(monkeypatch):
    """With errors of the input ruled out, biases move nothing."""
    monkeypatch.setattr(learnedstats, "_ERRORS", (1e-9,))
    graph = centred()
    found = estimate_learned(graph, pictures(), passes=1)
    plain = shown(graph, pictures())
    for name, statistics in found.items():
        np.testing.assert_allclose(statistics.mean, plain[name].mean, atol=1e-4)
        np.testing.assert_allclose(statistics.std, plain[name].var.sqrt(), rtol=1e-3)


def test_layers_get_louder_but_never_quieter():
    graph = centred()
    once, twice = (estimate_learned(graph, 0.3 * pictures(), passes=n) for n in (1, 2))
    ratio = twice["c0"].std / once["c0"].std
    assert ratio.min() >= 1 - 1e-6
    assert ratio.max() <= Prior().loudest + 1e-6


def test_the_low_rank_solution_is_the_full_one():
    rng = np.random.default_rng(1)
    factors, noise = rng.normal(size=(9, 4)), rng.uniform(0.1, 1, 9)
    right = rng.normal(size=9)
    full = np.diag(noise) + 0.3 * factors @ factors.T + 0.2 * np.ones((9, 9))
    found = learnedstats._Covariance(noise, 0.3, factors, 0.2).solve(right)
    np.testing.assert_allclose(found, np.linalg.solve(full, right), rtol=1e-9)


def test_heads_and_layers_with_a_fused_activation_are_left_out():
    weight = np.ones((4, 4, 1, 1), np.float32)
    constants = {"w": weight, "v": weight, "u": weight}
    nodes = (
        Node("a", Conv2d(), ("x", "w")),
        Node("b", Conv2d(activation=RELU), ("a", "v")),
        Node("head", Conv2d(), ("b", "u")),
        Node("pool", GlobalAvgPool(), ("head",)),
    )
    graph = Graph("net", ("x",), ("pool",), nodes, constants, {"x": (1, 4, 6, 6)})
    assert [node.name for node in statistics_layers(graph)] == ["a"]
    # without a bias nothing is known of the input: as the pictures show
    images = torch.rand(16, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    found = estimate_learned(graph, images)["a"]
    np.testing.assert_allclose(found.mean, shown(graph, images)["a"].mean, rtol=1e-5)
