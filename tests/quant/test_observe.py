"""Range rules: each against what it promises, on histograms made by hand and on a real pass over a calibration set."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Add, Clamp, HardSigmoid, HardSwish, LeakyReLU, Mul, Sigmoid
from edgeq.quant.consumer_function import consumer_function
from edgeq.quant.observe import BINS, OBSERVERS, Histogram, collect, mse


def histogram(values):
    low, high = float(values.min()), float(values.max())
    return Histogram(low, high, np.histogram(values, BINS, (low, high))[0].astype(float))


def error(values, low, high, levels):
    scale = (high - low) / (levels - 1)
    zero = np.round(-low / scale)
    return np.mean(((np.clip(np.round(values / scale) + zero, 0, levels - 1) - zero) * scale - values) ** 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([16, 256]), st.booleans())
def test_mse_is_no_worse_than_minmax(seed, levels, rectified):
    values = np.random.default_rng(seed).standard_t(3, 4000)
    values = np.maximum(values, 0) if rectified else values
    counted = histogram(values)
    low, high = mse(counted, levels, None)
    # the histogram has finite bins, so equality is up to their width
    assert error(values, low, high, levels) <= error(values, min(counted.low, 0), max(counted.high, 0), levels) * 1.02


def test_mse_cuts_an_outlier_at_four_bits_and_keeps_it_at_eight():
    values = np.concatenate([np.random.default_rng(0).uniform(0, 1, 100_000), [3.0]])
    assert mse(histogram(values), 16, None)[1] < 1.5
    assert OBSERVERS.get("minmax")(histogram(values), 16, None)[1] == pytest.approx(3.0)
    assert OBSERVERS.get("percentile")(histogram(values), 16, None)[1] < 1.5


def test_range_is_chosen_by_what_the_next_op_makes_of_it():
    # Behind a leaky ReLU the negative side hardly matters, so it is given up for resolution above zero.
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    plain = mse(histogram(values), 16, None)[0]
    leaky = mse(histogram(values), 16, lambda x: np.where(x > 0, x, 0.1 * x))[0]
    assert leaky > plain


def test_collect_counts_every_value_of_a_group_once():
    graph = Graph(
        "net",
        ("x",),
        ("sum",),
        (Node("up", Clamp(0.0), ("x",)), Node("sum", Add(), ("up", "x"))),
        {},
        {"x": (1, 1, 2, 2)},
    )
    inputs = np.arange(-8, 12, dtype=np.float32).reshape(5, 1, 2, 2)
    found = collect(graph, {"g": ("up", "sum")}, CalibrationSet(inputs, np.full(5, -1), "test"), batch=2)["g"]
    assert (found.low, found.high) == (-8.0, 22.0)
    assert found.counts.sum() == 2 * inputs.size


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 5000, 100_000]), st.floats(-3, 3), st.booleans())
def test_counts_are_those_of_histc(seed, size, centre, rectified):
    values = np.random.default_rng(seed).normal(centre, 1, (2, size, 3, 1)).astype(np.float32)
    values = np.maximum(values, 0) if rectified else values
    graph = Graph("net", ("x",), ("up",), (Node("up", Clamp(), ("x",)),), {}, {"x": (1, size, 3, 1)})
    found = collect(graph, {"g": ("up",)}, CalibrationSet(values, np.full(2, -1), "test"))["g"]
    expected = torch.histc(torch.from_numpy(values), BINS, found.low, found.high)
    np.testing.assert_array_equal(found.counts, expected.numpy())


def test_a_constant_has_a_bin():
    values = np.full((1, 2, 3, 3), 300.0, np.float32)
    graph = Graph("net", ("x",), ("up",), (Node("up", Clamp(), ("x",)),), {}, {"x": (1, 2, 3, 3)})
    found = collect(graph, {"g": ("up",)}, CalibrationSet(values, np.full(1, -1), "test"))["g"]
    assert found.low < 300.0 < found.high
    assert found.counts.sum() == values.size


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused_by_name(value):
    graph = Graph("net", ("x",), ("up",), (Node("up", LeakyReLU(0.1), ("x",)),), {}, {"x": (1, 2, 3, 3)})
    images = CalibrationSet(np.full((1, 2, 3, 3), value, np.float32), np.full(1, -1), "test")
    with pytest.raises(UnsupportedError, match="values that are not finite at up"):
        collect(graph, {"g": ("up",)}, images)


def test_unknown_observer_lists_the_choices():
    with pytest.raises(ConfigError, match="did you mean 'mse'"):
        OBSERVERS.get("mes")


def test_what_reads_a_value_alone_decides_what_its_errors_are_worth():
    def reading(*nodes, outputs=("y",)):
        return Graph("net", ("x",), outputs, nodes, {}, {"x": (1, 3, 4, 4)})

    def at(graph):
        found = consumer_function(graph, "x")
        return None if found is None else found(np.array([-4.0, 0.0, 2.0]))

    sigmoid, y = Node("s", Sigmoid(), ("x",)), Node("y", Mul(), ("x", "s"))
    np.testing.assert_allclose(at(reading(Node("y", HardSwish(), ("x",)))), [0, 0, 10 / 6])
    np.testing.assert_allclose(at(reading(Node("y", Clamp(0.0, 1.0), ("x",)))), [0, 0, 1])
    np.testing.assert_allclose(at(reading(sigmoid, y)), [-4 / (1 + np.exp(4)), 0, 2 / (1 + np.exp(-2))])
    assert at(reading(sigmoid, y, outputs=("y", "s"))) is None
    assert at(reading(sigmoid, y, outputs=("y", "x"))) is None
    assert at(reading(Node("a", Sigmoid(), ("x",)), Node("y", Mul(), ("x", "x")))) is None
    assert at(reading(Node("y", LeakyReLU(1.0), ("x",)))) is None


def test_nothing_is_spent_on_what_a_hard_swish_drops():
    values = np.random.default_rng(0).uniform(-9, 3, 100_000)
    nodes = Node("gate", HardSigmoid(), ("x",)), Node("y", Mul(), ("x", "gate"))
    graph = Graph("net", ("x",), ("y",), nodes, {}, {"x": (1, 3)})
    assert mse(histogram(values), 256, None)[0] < -8.9
    assert -3.2 < mse(histogram(values), 256, consumer_function(graph, "x"))[0] < -2.8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([4, 16, 256]), st.booleans())
def test_mse_takes_what_trying_every_range_finds(seed, levels, halved):
    values = np.abs(np.random.default_rng(seed).standard_t(3, 4000))
    read = (lambda x: 0.5 * np.minimum(x, 2.0)) if halved else None
    counted = histogram(np.append(values, 0.0))
    x, target = counted.centres(), counted.centres() if read is None else read(counted.centres())

    def loss(high):
        made = np.clip(np.round(x / high * (levels - 1)), 0, levels - 1) * high / (levels - 1)
        return counted.counts @ ((made if read is None else read(made)) - target) ** 2

    low, high = mse(counted, levels, read)
    assert low == 0.0
    assert loss(high) == pytest.approx(min(loss(part * counted.high) for part in np.linspace(0.01, 1.0, 100)), rel=1e-9)
