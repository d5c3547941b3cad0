"""Gaps between what layers see and what they remember: right on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph
from edgeq.synth.statistics import BATCH, Reference, assignment, layer_gaps, observe_moments, references

SHAPE = (3, 12, 12)


def remembering(inputs: torch.Tensor) -> Graph:
    """A network whose two batch norms remember exactly what they see of `inputs`."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))
    value = inputs
    with torch.no_grad():
        for layer in network.eval():
            if isinstance(layer, nn.BatchNorm2d):
                var, mean = torch.var_mean(value, (0, 2, 3), correction=0)
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(var)
            value = layer(value)
    return capture(network, SHAPE, "remembering")


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    """More than one batch, and batches that differ from one another, so that merging them matters."""
    generator = torch.Generator().manual_seed(1)
    level = torch.linspace(-2, 3, 2 * BATCH + 5).view(-1, 1, 1, 1)
    return level + torch.randn((len(level), *SHAPE), generator=generator)


def gaps(graph: Graph, images: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    wanted, _ = references(graph)
    seen, _ = observe_moments(graph, images, [want.value for want in wanted])
    return [(row.mean_gap, row.std_gap) for row in layer_gaps(wanted, seen)]


def test_images_the_network_remembers_have_no_gap(inputs: torch.Tensor) -> None:
    graph = remembering(inputs)
    wanted, source = references(graph)
    assert source == "batch norm"
    assert [len(want.mean) for want in wanted] == [6, 4]
    assert np.allclose(gaps(graph, inputs.numpy()), 0, atol=1e-4)
    # The same set in another order is the same set; half of it is not.
    assert np.allclose(gaps(graph, inputs.numpy()[::-1].copy()), 0, atol=1e-4)
    assert min(max(pair) for pair in gaps(graph, inputs.numpy()[:BATCH])) > 0.1


def test_gaps_are_in_remembered_standard_deviations() -> None:
    want = Reference("bn", "x", np.array([1.0, -2.0]), np.array([2.0, 0.5]))
    seen = {"x": (np.array([3.0, -2.0]), np.array([2.0, 1.0]))}
    (row,) = layer_gaps([want], seen)
    assert (row.mean_gap, row.worst_mean_gap) == (0.5, 1.0)  # 1 and 0 standard deviations
    assert (row.std_gap, row.worst_std_gap) == (0.5, 1.0)  # equal, and twice as wide
    assert (row.channels, row.silent) == (2, 0)


def test_silent_channels_are_counted_and_left_out() -> None:
    want = Reference("bn", "x", np.zeros(3), np.array([1.0, 1e-9, 0.0]))
    (row,) = layer_gaps([want], {"x": (np.array([0.25, 5.0, 5.0]), np.array([1.0, 5.0, 5.0]))})
    assert (row.mean_gap, row.std_gap, row.channels, row.silent) == (0.25, 0.0, 3, 2)
    (row,) = layer_gaps([Reference("bn", "x", np.zeros(1), np.zeros(1))], {"x": (np.ones(1), np.ones(1))})
    assert (row.mean_gap, row.worst_std_gap, row.silent) == (0.0, 0.0, 1)


def test_moments_are_those_of_the_whole_set(inputs: torch.Tensor) -> None:
    graph = remembering(inputs)
    (name,) = graph.inputs
    far = inputs.numpy() + np.float32(1000)  # sums of squares would have lost the variance
    seen, outputs = observe_moments(graph, far, [name])
    mean, std = seen[name]
    assert np.allclose(mean, far.astype(np.float64).mean((0, 2, 3)), rtol=1e-6)
    assert np.allclose(std, far.astype(np.float64).std((0, 2, 3)), rtol=1e-3)
    assert len(outputs) == len(far)


class Shared(nn.Module):
    """Two batch norms that read the same value and remember different things."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.other.running_mean.fill_(10.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x) + self.other(x)


def test_batch_norms_on_one_value_are_two_rows() -> None:
    graph = capture(Shared().eval(), SHAPE, "shared")
    rows = gaps(graph, np.random.default_rng(0).standard_normal((8, *SHAPE)).astype(np.float32))
    assert len(rows) == 2
    assert rows[0][0] < 0.2
    assert rows[1][0] == pytest.approx(10, abs=0.2)


@pytest.mark.parametrize("tail", [[], [nn.Softmax(-1)]])
def test_without_batch_norm_the_weights_say_what_to_expect(tail: list[nn.Module]) -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    graph = capture(nn.Sequential(*body, *tail).eval(), SHAPE, "plain")
    wanted, source = references(graph)
    assert source == "weights"
    assert [want.layer for want in wanted] == ["0", "4"]
    white = np.random.default_rng(0).standard_normal((64, *SHAPE)).astype(np.float32)
    close = gaps(graph, white)[0]
    assert max(close) < 0.1  # independent normal inputs are what the estimate assumes
    assert max(gaps(graph, 5 * white + 5)[0]) > 1


def test_an_op_statistics_cannot_pass_is_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.softmax(torch.flatten(x, 1), -1))

    with pytest.raises(UnsupportedError, match="Softmax"):
        references(capture(Odd().eval(), (3, 2, 2), "odd"))


def test_assignment_counts_labels_kept() -> None:
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 2, 2, 3]].reshape(5, 4, 1, 1)
    labels = np.array([0, 1, 0, -1, -1])
    found = assignment(CalibrationSet(np.zeros((5, 1, 1, 1), np.float32), labels, "any"), outputs)
    assert (found.labelled, found.kept, found.classes) == (3, 2, 4)
