"""Specifications: who owns a range, who shares, what is fixed; and the grid a range becomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    RELU6,
    UNIT,
    Add,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Reshape,
    Softmax,
)
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import DerivedSpec, FixedSpec, OwnSpec, SharedSpec, fixed_output, grid, specify


def network(*nodes: Node, outputs: tuple[str, ...]) -> Graph:
    weights = {
        "w": np.ones((4, 3, 1, 1), np.float32),
        "b": np.zeros(4, np.float32),
        "fc": np.ones((2, 64), np.float32),
    }
    used = {name for node in nodes for name in node.inputs}
    constants = {name: array for name, array in weights.items() if name in used}
    return Graph("net", ("x",), outputs, nodes, constants, {"x": (1, 3, 8, 8)})


def test_pool_concat_and_reshape_join_one_group():
    graph = network(
        Node("a", Conv2d(activation=RELU6), ("x", "w", "b")),
        Node("c", Conv2d(), ("x", "w")),
        Node("join", Concat(1), ("a", "c")),
        Node("pool", MaxPool2d(), ("join",)),
        outputs=("pool",),
    )
    specs = specify(graph, (-1, 1), Scheme())
    assert isinstance(specs["a"], OwnSpec)
    assert set(specs["a"].members) == {"a", "c", "join", "pool"}
    assert [specs[name] for name in ("c", "join", "pool")] == [SharedSpec("a")] * 3
    assert specs["b"] == DerivedSpec("x", "w")
    # one member is unbounded, so the group is; and the group holds an output, so nothing of it is clipped
    assert specs["a"].cap == float("inf")
    assert specs["a"].exact


def test_relu6_caps_its_range():
    graph = network(Node("a", Conv2d(activation=RELU6), ("x", "w", "b")), Node("s", Add(), ("a", "a")), outputs=("s",))
    specs = specify(graph, (-1, 1), Scheme())
    assert specs["a"] == OwnSpec(("a",), 6.0, False)


def test_nothing_is_clipped_before_a_global_average():
    nodes = (
        Node("a", Conv2d(activation=RELU6), ("x", "w", "b")),
        Node("c", Conv2d(activation=RELU6), ("x", "w")),
        Node("mean", GlobalAvgPool(), ("a",)),
        Node("also", Add(), ("c", "c")),
        Node("mean_c", GlobalAvgPool(), ("c",)),
    )
    graph = network(*nodes, outputs=("mean", "also", "mean_c"))
    specs = specify(graph, (-1, 1), Scheme())
    assert specs["a"] == OwnSpec(("a",), 6.0, exact=True)
    assert specs["c"] == OwnSpec(("c",), 6.0, exact=False)  # read by something else, too
    few = specify(graph, (-1, 1), Scheme(8, 4))
    assert few["a"] == OwnSpec(("a",), 6.0, exact=False, bits=4)


def test_input_is_fixed_by_preprocessing_and_softmax_by_definition():
    graph = Graph(
        "net",
        ("x",),
        ("soft",),
        (Node("flat", Reshape((64,)), ("x",)), Node("fc", Linear(), ("flat", "w")), Node("soft", Softmax(), ("fc",))),
        {"w": np.ones((2, 64), np.float32)},
        {"x": (1, 1, 8, 8)},
    )
    specs = specify(graph, (-2.0, 2.0), Scheme())
    assert specs["x"] == FixedSpec(grid(-2.0, 2.0))
    assert specs["flat"] == SharedSpec("x")
    assert specs["soft"] == FixedSpec(fixed_output(Softmax()))


def test_two_fixed_values_cannot_be_joined():
    graph = Graph(
        "net",
        ("x",),
        ("join",),
        (Node("soft", Softmax(), ("x",)), Node("join", Concat(1), ("x", "soft"))),
        {},
        {"x": (1, 5)},
    )
    with pytest.raises(UnsupportedError, match="two values of fixed scale"):
        specify(graph, (-2.0, 2.0), Scheme())


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_grid_represents_zero_exactly_and_covers_the_range(a, b):
    low, high = min(a, b), max(a, b)
    q = grid(low, high)
    assert q.dequantize(np.array(q.zero_point)) == 0.0
    ends = q.dequantize(q.quantize(np.array([low, high], np.float32)))
    assert np.all(np.abs(ends - [low, high]) <= float(q.scale) * 1.01)


def test_relu_range_puts_zero_at_the_lowest_integer():
    assert int(grid(0.0, 3.7).zero_point) == -128


def test_a_clamp_no_kernel_rescales_stays_on_its_inputs_grid():
    nodes = (Node("low", Clamp(-0.25, 0.4), ("x",)), Node("six", RELU6, ("x",)), Node("unit", UNIT, ("x",)))
    graph = Graph("net", ("x",), ("low", "six", "unit"), nodes, {}, {"x": (1, 3, 4, 4)})
    specs = specify(graph, (-2.0, 2.0), Scheme())
    assert specs["low"] == SharedSpec("x")
    assert specs["six"] == OwnSpec(("six",), 6.0, exact=True)
    assert specs["unit"] == FixedSpec(grid(0.0, 1.0))
