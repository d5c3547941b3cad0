"""Calibrate and freeze on small networks: the integers compute the float network, corrections help, dead channels are
raised to what runtimes accept."""

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, RELU6, Add, BatchNorm, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.calibrate import calibrate
from edgeq.quant.fit_kernels import DEAD_RATIO
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme

RANGE = (-3.0, 3.0)


@pytest.fixture
def graph():
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "a.w": weight(8, 3, 3, 3),
        "a.b": rng.normal(0, 0.3, 8).astype(np.float32),
        "b.w": weight(8, 1, 3, 3),
        "b.b": rng.normal(0, 0.3, 8).astype(np.float32),
        "c.w": weight(8, 8, 1, 1),
        "fc.w": weight(5, 8),
        "fc.b": rng.normal(0, 0.3, 5).astype(np.float32),
    }
    nodes = (
        Node("a", Conv2d(stride=(2, 2), padding=(0, 1, 0, 1), activation=RELU6), ("x", "a.w", "a.b")),
        Node("b", Conv2d(padding=(1, 1, 1, 1), groups=8, activation=RELU), ("a", "b.w", "b.b")),
        Node("c", Conv2d(), ("b", "c.w")),
        Node("sum", Add(RELU), ("c", "a")),
        Node("mean", GlobalAvgPool(), ("sum",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w", "fc.b")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 16, 16)})


def images(count=16, seed=1):
    inputs = np.clip(np.random.default_rng(seed).normal(0, 1, (count, 3, 16, 16)), *RANGE).astype(np.float32)
    return CalibrationSet(inputs, np.full(count, -1, np.int64), "test")


def outputs(graph, frozen, inputs):
    """(float, integer) outputs in real numbers."""
    integer = frozen.graph
    name = integer.outputs[0]
    found = run(integer, integer.quantizations["x"].quantize(inputs))[name]
    with torch.no_grad():
        return GraphModule(graph)(torch.from_numpy(inputs)).numpy(), integer.quantizations[name].dequantize(found)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse"])
def test_integers_compute_the_float_network(graph, observer):
    frozen = freeze(graph, calibrate(graph, images(), RANGE, scheme=Scheme(), observer=observer))
    want, got = outputs(graph, frozen, images(seed=2).inputs)
    assert np.square(want).sum() / np.square(want - got).sum() > 10 ** (30 / 10)  # 30 dB


def test_seven_bit_weights_stay_within_63(graph):
    scheme = Scheme(weight_bits=7)
    frozen = freeze(graph, calibrate(graph, images(), RANGE, scheme=scheme))
    weights = [v for v in frozen.graph.constants.values() if v.dtype == np.int8]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == 63


def test_bias_correction_removes_the_mean_error(graph):
    graph = graph.replace(constants={**graph.constants, "a.w": graph.constants["a.w"] * np.float32(1.0)})
    scheme = Scheme(weight_bits=3)  # coarse, so that there is something to correct
    calibration = images()
    errors = {}
    for correct in (False, True):
        decided = calibrate(graph, calibration, RANGE, scheme=scheme, correct_bias=correct)
        want, got = outputs(graph, freeze(graph, decided), calibration.inputs)
        errors[correct] = float(np.abs((got - want).mean(0)).mean())
    assert errors[True] < 0.25 * errors[False]


def test_dead_channels_are_raised_and_counted_and_keep_their_bias(graph):
    weight = graph.constants["a.w"].copy()
    weight[2], weight[5] = 0.0, 1e-30
    graph = graph.replace(constants={**graph.constants, "a.w": weight})
    frozen = freeze(graph, calibrate(graph, images(), RANGE, scheme=Scheme()))
    assert frozen.dead_channels == {"a": 2}
    quantizations = frozen.graph.quantizations
    multiplier = quantizations["x"].scale * quantizations["a.w"].scale / quantizations["a"].scale
    assert multiplier.min() >= DEAD_RATIO * 0.999
    found = run(frozen.graph, quantizations["x"].quantize(images().inputs))["a"]
    real = quantizations["a"].dequantize(found)[:, 2]
    np.testing.assert_allclose(real, max(graph.constants["a.b"][2], 0), atol=float(quantizations["a"].scale))


def test_input_range_is_the_preprocessing_s_and_not_the_images(graph):
    narrow = CalibrationSet(images().inputs * np.float32(0.01), np.full(16, -1, np.int64), "test")
    decided = calibrate(graph, narrow, RANGE, scheme=Scheme())
    assert float(decided.activations["x"].scale) == pytest.approx(6 / 255)


def test_relu_outputs_start_at_the_lowest_integer_and_relu6_ends_at_six(graph):
    decided = calibrate(graph, images(), RANGE, scheme=Scheme())
    assert [int(decided.activations[name].zero_point) for name in ("a", "b", "sum")] == [-128] * 3
    assert float(decided.activations["a"].scale) * 255 <= 6.0 + 1e-6


def test_saved_integers_load_equal(graph, tmp_path):
    frozen = freeze(graph, calibrate(graph, images(), RANGE, scheme=Scheme()))
    path = tmp_path / "integer.safetensors"
    path.write_bytes(frozen.graph.to_bytes())
    loaded = IntegerGraph.load(path)
    assert loaded.to_bytes() == frozen.graph.to_bytes()
    assert loaded.nodes == frozen.graph.nodes


def test_a_batch_norm_left_behind_is_refused(graph):
    ones = {f"n.{k}": np.ones(8, np.float32) for k in "gbmv"}
    nodes = (graph.nodes[0], Node("n", BatchNorm(), ("a", *ones)))
    left = graph.replace(nodes=nodes, outputs=("n",), constants={**graph.constants, **ones})
    decided = calibrate(graph, images(), RANGE, scheme=Scheme())
    with pytest.raises(UnsupportedError, match="BatchNorm, which has constants"):
        freeze(left, decided)


def test_a_correction_that_hurts_behind_the_relu_is_dropped(graph):
    # Channel 0 lies far below zero: whatever its mean becomes, the ReLU cuts it off, so a shift can only do harm.
    bias = graph.constants["a.b"].copy()
    bias[0] = -50.0
    graph = graph.replace(constants={**graph.constants, "a.b": bias})
    scheme = Scheme(weight_bits=3)
    decided = calibrate(graph, images(), RANGE, scheme=scheme)
    assert decided.bias_corrections["a"][0] == 0.0
    assert np.any(decided.bias_corrections["a"][1:] != 0.0)


def test_images_beyond_the_pixel_range_count_as_the_device_sees_them(graph):
    wild = images()
    wild = CalibrationSet(wild.inputs * 3, wild.labels, "test")
    seen = CalibrationSet(np.clip(wild.inputs, *RANGE), wild.labels, "test")
    one, other = (calibrate(graph, some, RANGE, scheme=Scheme()) for some in (wild, seen))
    assert one.activations == other.activations
    for name, correction in one.bias_corrections.items():
        np.testing.assert_array_equal(correction, other.bias_corrections[name])
