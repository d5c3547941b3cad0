"""Rounding with compensation: on the grid, better than nearest where inputs are alike, nearest without evidence."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d, Linear, Reshape
from edgeq.integer.graph import Quantization
from edgeq.quant.calibrate import calibrate
from edgeq.quant.fakequant import quantize_weight, weight_integers
from edgeq.quant.freeze import freeze
from edgeq.quant.rounding import likeness, round_layer
from edgeq.quant.scheme import Scheme

RNG = np.random.default_rng(0)


def weight(*shape):
    return RNG.normal(0, 1, shape).astype(np.float32)


def test_two_weights_of_one_input_share_their_error():
    """Both weights multiply the same number: what the first loses the second must gain."""
    rows = np.array([[0.4, 0.4, 2.0]], np.float32)
    grid = Quantization(np.array([1.0], np.float32), np.zeros(1, np.int32), "int8", axis=0, bits=3)
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).T
    alike = (x @ x.T)[None] * 1000
    made = round_layer(rows, grid, alike, 2000)
    assert made[0, :2].sum() == 1  # 0.4 + 0.4 is nearer to 1 than to 0
    assert made[0, 2] == 2
    assert weight_integers(rows, grid).tolist() == [[0, 0, 2]]


def test_small_layers_come_close_to_the_best_rounding_there_is():
    """Every rounding up or down of six weights, tried."""
    better = equal = 0
    for _ in range(20):
        rows = weight(1, 6)
        grid = quantize_weight(rows, 4)
        x = torch.from_numpy(weight(6, 2) @ weight(2, 400))  # inputs of two degrees of freedom
        alike = (x @ x.T)[None]

        def error(made, rows=rows, x=x):
            return float(((torch.from_numpy(made - rows) @ x) ** 2).sum())

        found = error(round_layer(rows, grid, alike, 400))
        nearest = error(weight_integers(rows, grid) * grid.scale[:, None])
        low = np.floor(rows / grid.scale)
        choices = (np.clip(low + np.array(c), -7, 7) * grid.scale[:, None] for c in itertools.product((0, 1), repeat=6))
        best = min(error(made.astype(np.float32)) for made in choices)
        better, equal = better + (found < nearest), equal + (found <= best * 4)
    assert better >= 17
    assert equal >= 12


def test_without_columns_every_weight_goes_to_its_nearest_integer():
    rows = weight(8, 4, 3, 3)
    grid = quantize_weight(rows, 4)
    made = round_layer(rows, grid, torch.zeros(1, 36, 36), 0)
    np.testing.assert_array_equal(weight_integers(made, grid), weight_integers(rows, grid))


@pytest.mark.parametrize("groups", [1, 2])
def test_long_channels_are_rounded_part_by_part(groups, monkeypatch):
    monkeypatch.setattr("edgeq.quant.rounding.LONGEST", 10)
    rows, value = weight(4, 6, 2, 2), torch.from_numpy(weight(2, 6 * groups, 9, 8))
    grid = quantize_weight(rows, 4)
    alike, cross, count = likeness(Node("layer", Conv2d(groups=groups), ("x", "w")), rows.shape, value)
    assert alike.shape == (3 * groups, 8, 8)
    made = round_layer(rows, grid, alike, count, cross)
    flat, each = rows.reshape(4, 3, 8), 4 // groups
    for channel in range(4):
        own = Quantization(grid.scale[channel : channel + 1], np.zeros(1, np.int32), "int8", axis=0, bits=4)
        for part in range(3):
            place = slice(channel // each * 3 + part, channel // each * 3 + part + 1)
            alone = round_layer(flat[channel : channel + 1, part], own, alike[place], count, cross[place])
            np.testing.assert_array_equal(alone[0], made[channel].reshape(3, 8)[part])


@pytest.mark.parametrize(
    ("op", "shape", "inputs"),
    [
        (Conv2d(padding=(1, 0, 2, 1), stride=(2, 1)), (6, 4, 3, 2), (2, 4, 9, 8)),
        (Conv2d(groups=2, dilation=(2, 1)), (6, 2, 2, 3), (3, 4, 7, 6)),
        (Conv2d(groups=4, padding=(1, 1, 1, 1)), (4, 1, 3, 3), (2, 4, 5, 5)),
        (Linear(), (5, 7), (4, 7)),
    ],
)
def test_likeness_is_of_what_the_weights_multiply(op, shape, inputs):
    """For any change of weights, the change of outputs has the square that the likeness says."""
    value, change = torch.from_numpy(weight(*inputs)), torch.from_numpy(weight(*shape))
    alike, cross, count = likeness(Node("layer", op, ("x", "w")), shape, value)
    if isinstance(op, Linear):
        out = value @ change.T
    else:
        top, bottom, left, right = op.padding
        padded = F.pad(value, (left, right, top, bottom))
        out = F.conv2d(padded, change, stride=op.stride, dilation=op.dilation, groups=op.groups)
    assert count == out.numel() // len(change)
    torch.testing.assert_close(alike, cross)
    rows = change.reshape(alike.shape[0], -1, alike.shape[1])
    expected = torch.einsum("gon,gnm,gom->go", rows, alike, rows).reshape(-1)
    got = (out.square().sum([0, *range(2, out.dim())])) if out.dim() > 2 else out.square().sum(0)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_calibration_carries_the_chosen_integers_to_what_is_frozen():
    constants = {"a": weight(8, 3, 3, 3), "b": weight(8, 8, 3, 3), "c": weight(4, 8)}
    nodes = (
        Node("one", Conv2d(), ("x", "a")),
        Node("two", Conv2d(), ("one", "b")),
        Node("three", Conv2d(groups=8), ("two", "d")),
        Node("flat", Reshape((8,)), ("three",)),
        Node("four", Linear(), ("flat", "c")),
    )
    constants["d"] = weight(8, 1, 2, 2)
    graph = Graph("net", ("x",), ("four",), nodes, constants, {"x": (1, 3, 6, 6)})
    inputs = np.clip(weight(16, 3, 6, 6), -2, 2)
    images = CalibrationSet(inputs, np.full(16, -1, np.int64), "test")
    before = graph.digest()
    decided = calibrate(graph, images, (-2.0, 2.0), scheme=Scheme.of("w4a8"))
    assert graph.digest() == before  # networks run in the graph's own memory
    assert set(decided.constants) == {"b", "d"}  # the first and last layer keep 8 bits
    frozen = freeze(graph, decided).graph
    for name, made in decided.constants.items():
        grid = decided.weights[name]
        integers = frozen.constants[name]
        assert np.abs(integers).max() <= 7
        spread = grid.scale.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(made, integers * spread, rtol=1e-5)
    assert any((frozen.constants[n] != weight_integers(graph.constants[n], decided.weights[n])).any() for n in "bd")
    assert calibrate(graph, images, (-2.0, 2.0), scheme=Scheme.of("w8a8")).constants == {}
