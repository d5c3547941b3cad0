"""Pictures of nothing and what classes make of them: deterministic, pixels, confident where asked, resumable."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.run import GraphModule
from edgeq.synth import SYNTHESIZERS, Request, gzsq, gzsq_literal, inversion
from edgeq.synth.pictures import dead_leaves


@pytest.fixture
def request_():
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 0.4, (12, 3, 3, 3)).astype(np.float32),
        "b": np.zeros(12, np.float32),
        "fc.w": rng.normal(0, 1.0, (4, 12)).astype(np.float32),
    }
    nodes = (
        Node("c", Conv2d(padding=(1, 1, 1, 1), activation=RELU), ("x", "w", "b")),
        Node("m", GlobalAvgPool(), ("c",)),
        Node("f", Reshape((12,)), ("m",)),
        Node("fc", Linear(), ("f", "fc.w")),
    )
    graph = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 24, 20)})
    low, high = np.full(3, -2.0, np.float32), np.full(3, 2.0, np.float32)
    return Request(graph, low, high, classes=4, images=12, seed=3, effort="fast")


@pytest.fixture
def few_iterations(monkeypatch):
    for module in (inversion, gzsq, gzsq_literal):
        monkeypatch.setitem(module.ITERATIONS, "fast", 10)


def test_leaves_are_pictures_and_repeat():
    one, other = dead_leaves(2, (3, 32, 24), 5), dead_leaves(2, (3, 32, 24), 5)
    assert one.tobytes() == other.tobytes() != dead_leaves(2, (3, 32, 24), 6).tobytes()
    assert one.min() >= 0
    assert one.max() <= 1
    # neighbours resemble each other far more than the same pixels in any order do
    shuffled = np.random.default_rng(0).permutation(one.reshape(2, 3, -1), axis=-1).reshape(one.shape)
    assert np.abs(np.diff(one, axis=-1)).mean() < 0.5 * np.abs(np.diff(shuffled, axis=-1)).mean()


@pytest.mark.parametrize("method", ["leaves", "inversion", "gzsq", "gzsq-literal", "noise", "uniform"])
def test_methods_without_batch_norm_repeat_and_fit(request_, method, few_iterations):
    make, request_ = SYNTHESIZERS.get(method), replace(request_, images=4)
    one, other = make(request_), make(request_)
    assert one.to_bytes() == other.to_bytes()
    assert one.inputs.shape == (4, 3, 24, 20)
    assert one.inputs.dtype == np.float32
    assert make(replace(request_, seed=4)).digest() != one.digest()
    if method in ("leaves", "inversion", "gzsq", "uniform"):
        assert one.inputs.min() >= -2
        assert one.inputs.max() <= 2


def test_inversion_pulls_towards_the_class_it_was_dealt(request_):
    made, start = (SYNTHESIZERS.get(name)(request_) for name in ("inversion", "leaves"))
    network = GraphModule(request_.graph)
    pulled = made.labels >= 0
    assert pulled.sum() == 9  # a quarter stays random shapes
    np.testing.assert_array_equal(made.inputs[~pulled], start.inputs[~pulled])
    labels = torch.from_numpy(made.labels[pulled])
    assert set(np.bincount(labels).tolist()) == {2, 3}  # balanced among those
    with torch.no_grad():
        before, after = (network(torch.from_numpy(s.inputs[pulled])).log_softmax(1) for s in (start, made))
    gain = after[torch.arange(9), labels] - before[torch.arange(9), labels]
    assert float(gain.mean()) > 0.3


def test_how_far_pixels_move_does_not_depend_on_their_units(request_):
    """A network that takes pixels as 0..255 gets the same pictures as one that takes them as -2..2."""
    scale = np.float32(255 / 4)
    weight = request_.graph.constants["w"]
    constants = dict(request_.graph.constants) | {
        "w": weight / scale,
        "b": request_.graph.constants["b"],
    }
    request_, low, high = replace(request_, images=4), np.zeros(3, np.float32), np.full(3, 255.0, np.float32)
    one = SYNTHESIZERS.get("inversion")(
        replace(request_, low=np.full(3, 0.0, np.float32), high=np.full(3, 4.0, np.float32))
    )
    other = SYNTHESIZERS.get("inversion")(
        replace(request_, graph=replace(request_.graph, constants=constants), low=low, high=high)
    )
    np.testing.assert_allclose(other.inputs / scale, one.inputs, atol=0.02)


def test_interrupted_run_continues_to_the_same_bytes(request_, tmp_path, few_iterations, monkeypatch):
    monkeypatch.setattr(inversion, "BATCH", 6)
    request = replace(request_, images=12)  # two batches

    class StopError(Exception):
        pass

    class Interrupting:
        def stage(self, name): ...
        def done(self, name, seconds, cached): ...
        def step(self, done, total, note=""):
            if done > 0.75 * total:
                raise StopError

    make = SYNTHESIZERS.get("inversion")
    with pytest.raises(StopError):
        make(replace(request, checkpoint=tmp_path, progress=Interrupting()))
    assert [path.name for path in tmp_path.glob("*.npy")] == ["batch-0000.npy"]
    assert make(replace(request, checkpoint=tmp_path)).to_bytes() == make(request).to_bytes()
