"""Scores of classes: the lowest may saturate, and the grid is finer for it."""

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.student import Student
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.quant.calibrate import calibrate
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import OwnSpec, specify

RANGE, SCHEME = (-1.0, 1.0), Scheme()


def classifier(shift=0.0, classes=20):
    """Twenty scores of pixels; three classes that no image shows are far below all others."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, classes)).eval()
    with torch.no_grad():
        net[1].bias.fill_(shift)
        net[1].bias[-3:] = shift - 60.0
    return optimize(capture(net, (3, 4, 4), name="net"))


def images(count=64, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (count, 3, 4, 4)).astype(np.float32)
    return CalibrationSet(values, np.full(count, -1, np.int64), "test")


def range_of(graph, specs):
    q = calibrate(graph, images(), RANGE, scheme=SCHEME, specs=specs).activations[graph.outputs[0]]
    return tuple(float(q.dequantize(np.asarray(end))) for end in q.limits)


def disagreements(graph, specs):
    unseen = images(2000, 1).inputs
    with torch.no_grad():
        want = GraphModule(graph)(torch.from_numpy(unseen)).argmax(1)
        student = Student(graph, calibrate(graph, images(), RANGE, scheme=SCHEME, specs=specs)).eval()
        return int((student(torch.from_numpy(unseen)).argmax(1) != want).sum())


def test_a_class_far_below_costs_no_steps():
    graph = classifier()
    whole, ranked = (specify(graph, RANGE, SCHEME, ranked=some) for some in (False, True))
    assert range_of(graph, whole)[0] < -60
    low, high = range_of(graph, ranked)
    assert high == pytest.approx(range_of(graph, whole)[1], rel=0.2)
    assert low > -25
    assert disagreements(graph, ranked) < 0.5 * disagreements(graph, whole)


def test_scores_that_are_all_negative_keep_those_near_the_best():
    """As a log-softmax has them."""
    graph = classifier(shift=-40.0)
    low, high = range_of(graph, specify(graph, RANGE, SCHEME, ranked=True))
    assert high == 0.0
    assert low < -50  # the best are at -39, most at -40


@pytest.mark.parametrize(("outputs", "ranked"), [(1, False), (4, False), (5, True)])
def test_few_outputs_may_be_a_box_and_are_kept_whole(outputs, ranked):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, outputs)).eval()
    graph = optimize(capture(net, (3, 4, 4), name="net"))
    spec = specify(graph, RANGE, SCHEME, ranked=True)[graph.outputs[0]]
    assert isinstance(spec, OwnSpec)
    assert spec.ranked == ranked


def test_scores_that_something_reads_are_kept_whole():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(48, 20), nn.Linear(20, 20)

        def forward(self, x):
            scores = self.first(x.flatten(1))
            return scores, self.second(scores)

    graph = optimize(capture(Both().eval(), (3, 4, 4), name="net"))
    specs = specify(graph, RANGE, SCHEME, ranked=True)
    assert [bool(getattr(specs[name], "ranked", False)) for name in graph.outputs] == [False, True]
