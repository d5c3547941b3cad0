"""Images towards statistics of learned weights: they come closer, stay pixels, and need no classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Clamp, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.run import GraphModule
from edgeq.synth import SYNTHESIZERS, Request, gzsq
from edgeq.synth.gzsq import Settings, synthesize
from edgeq.synth.learnedstats import estimate_learned
from edgeq.synth.losses import answer_spread, batch_moments


@pytest.fixture
def request_():
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(0, 0.4, (12, 3, 3, 3)).astype(np.float32),
        "b": np.full(12, 0.5, np.float32),
        "v": rng.normal(0, 0.2, (16, 12, 3, 3)).astype(np.float32),
        "c": np.full(16, -0.5, np.float32),
        "fc.w": rng.normal(0, 1.0, (4, 16)).astype(np.float32),
    }
    nodes = (
        Node("one", Conv2d(padding=(1, 1, 1, 1)), ("x", "w", "b")),
        Node("r1", Clamp(0.0, 6.0), ("one",)),
        Node("two", Conv2d(padding=(1, 1, 1, 1)), ("r1", "v", "c")),
        Node("r2", Clamp(0.0, 6.0), ("two",)),
        Node("m", GlobalAvgPool(), ("r2",)),
        Node("f", Reshape((16,)), ("m",)),
        Node("fc", Linear(), ("f", "fc.w")),
    )
    graph = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 20, 20)})
    low, high = np.full(3, -2.0, np.float32), np.full(3, 2.0, np.float32)
    return Request(graph, low, high, classes=4, images=16, seed=3, effort="fast")


def gap(request, images):
    """Of the images' moments to those estimated from the random shapes they started as, in wanted deviations."""
    shapes = torch.from_numpy(SYNTHESIZERS.get("leaves")(request).inputs)
    wanted, seen = estimate_learned(request.graph, shapes), {}
    GraphModule(request.graph).run(
        torch.from_numpy(images), visit=lambda name, value: seen.__setitem__(name, batch_moments(value))
    )
    gaps = [(np.abs(seen[name].mean.numpy() - s.mean) / s.std).mean() for name, s in wanted.items()]
    return float(np.mean(gaps))


def test_images_come_closer_to_the_estimated_statistics(request_):
    made = synthesize(request_, Settings(iterations=30, answers=0.0, estimates=1))
    assert gap(request_, made.inputs) < 0.8 * gap(request_, SYNTHESIZERS.get("leaves")(request_).inputs)
    assert made.inputs.min() >= -2
    assert made.inputs.max() <= 2


def test_half_is_dealt_classes_and_pulled_towards_them(request_):
    made, start = (SYNTHESIZERS.get(name)(request_) for name in ("gzsq", "leaves"))
    pulled = made.labels >= 0
    assert np.bincount(made.labels[pulled]).tolist() == [2, 2, 2, 2]
    labels = torch.from_numpy(made.labels[pulled])
    network = GraphModule(request_.graph)
    with torch.no_grad():
        before, after = (network(torch.from_numpy(s.inputs[pulled])).log_softmax(1) for s in (start, made))
    assert float((after - before)[torch.arange(8), labels].mean()) > 0.3


def test_without_classes_only_statistics_count(request_):
    made = synthesize(replace(request_, classes=0, images=3), Settings(iterations=4))
    assert made.labels.tolist() == [-1, -1, -1]
    assert made.inputs.shape == (3, 3, 20, 20)


def test_interrupted_run_continues_to_the_same_bytes(request_, tmp_path, monkeypatch):
    monkeypatch.setattr(gzsq, "BATCH", 8)
    monkeypatch.setitem(gzsq.ITERATIONS, "fast", 6)

    class StopError(Exception):
        pass

    class Interrupting:
        def stage(self, name): ...
        def done(self, name, seconds, cached): ...
        def step(self, done, total, note=""):
            if done > 0.75 * total:
                raise StopError

    make = SYNTHESIZERS.get("gzsq")
    with pytest.raises(StopError):
        make(replace(request_, checkpoint=tmp_path, progress=Interrupting()))
    assert [path.name for path in tmp_path.glob("*.npy")] == ["batch-0000.npy"]
    assert make(replace(request_, checkpoint=tmp_path)).to_bytes() == make(request_).to_bytes()


def test_real_values_have_varied_answers(request_):
    def spread(values):
        made = SYNTHESIZERS.get("gzsq")(replace(request_, classes=0, values=values))
        answers = GraphModule(request_.graph).run(torch.from_numpy(made.inputs))["fc"]
        assert (made.labels == -1).all()
        return float(answer_spread(answers))

    assert spread(True) > spread(False) + 0.2


def test_inversion_refuses_real_values(request_):
    with pytest.raises(UnsupportedError, match=r"inversion needs classes.*gzsq"):
        SYNTHESIZERS.get("inversion")(replace(request_, classes=0, values=True))
