"""The TFLite writer: layout, orientation, inputs and outputs, size, determinism, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.layout import plan
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.ir import Graph
from edgeq.graph.ops import (
    RELU,
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Pad,
    Reshape,
    Slice,
)
from edgeq.integer.reference import run
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, seeds

Q = quantization(0.05, -3)
SAME3 = (1, 1, 1, 1)
STRIDED = Conv2d(stride=(2, 2), padding=SAME3, activation=RELU)


def strided_network(size: tuple[int, int], *, shortcut: bool = True) -> Flow:
    """Stem, pool, a residual block with a projection, and a flatten into a linear layer: all that a mirror touches."""
    flow = Flow((1, 3, *size), quantization(0.02, 4))
    flow.weighted("stem", STRIDED, (8, 3, 3, 3), Q)
    flow.add("pool", MaxPool2d((3, 3), (2, 2), SAME3), "stem")
    flow.weighted("a", STRIDED, (16, 8, 3, 3), Q, "pool")
    flow.weighted("b", Conv2d(padding=SAME3), (16, 16, 3, 3), quantization(0.06, 9), "a")
    if shortcut:
        flow.weighted("project", Conv2d(stride=(2, 2)), (16, 8, 1, 1), quantization(0.04, 1), "pool")
        flow.add("sum", Add(RELU), "b", "project", q=quantization(0.07, -128))
    else:
        flow.add("sum", Add(RELU), "b", "a", q=quantization(0.07, -128))
    shape = flow.graph().shapes["sum"]
    features = int(np.prod(shape[1:]))
    flow.add("flat", Reshape((features,)), "sum")
    flow.weighted("fc", Linear(), (10, features), quantization(0.05, 0), "flat")
    return flow


@pytest.mark.parametrize("size", [(32, 32), (33, 33), (32, 33), (31, 40), (17, 16)])
def test_strided_network_needs_no_pad(size: tuple[int, int]) -> None:
    flow = strided_network(size)
    assert_exact(flow)
    found = census(write_tflite(flow.graph()))
    assert found.clean
    assert found.kinds.get("PAD", 0) == 0


def test_each_axis_is_mirrored_on_its_own() -> None:
    assert plan(strided_network((64, 64)).graph()).mirror == (True, True)
    assert plan(strided_network((64, 33)).graph()).mirror == (True, False)
    assert plan(strided_network((33, 64)).graph()).mirror == (False, True)
    assert plan(strided_network((33, 33)).graph()).mirror == (False, False)


def test_mirror_is_one_reversal_of_the_input_per_axis() -> None:
    kinds = census(write_tflite(strided_network((48, 48)).graph())).kinds
    assert kinds["REVERSE_V2"] == 2
    # The projection reads every other pixel from the second on: the first row and column are cut off.
    assert kinds["STRIDED_SLICE"] == 1
    assert set(kinds) == {"REVERSE_V2", "CONV_2D", "MAX_POOL_2D", "STRIDED_SLICE", "ADD", "FULLY_CONNECTED"}


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_large_input_is_reversed_whole(io: str) -> None:
    """Channels too, which the first convolution's weights undo; the float file does the same."""
    flow = Flow((1, 3, 96, 64), quantization(0.02, 4))
    flow.weighted("stem", STRIDED, (16, 3, 3, 3), Q)
    flow.weighted("next", STRIDED, (128, 16, 3, 3), Q, "stem")
    flow.weighted("last", STRIDED, (8, 128, 3, 3), Q, "next")
    graph = flow.graph()
    assert plan(graph).reversed_channels == {"x"}
    data, samples = write_tflite(graph, io=io), flow.samples(2)
    kinds = census(data).kinds
    assert (kinds["REVERSE_V2"], kinds["RESHAPE"]) == (1 + 2, 2)  # the input whole, the output axis by axis
    assert census(data).clean
    assert_exact(flow, io=io)
    expected = graph.quantizations["last"].dequantize(run(graph, flow.entry.quantize(samples))["last"])
    np.testing.assert_array_equal(LiteRTSession(data, kernels="reference").run(samples)[0], expected)


def test_tensorflow_padding_stays_direct() -> None:
    """(0, 1, 0, 1) with stride 2 is SAME as it stands."""
    flow = Flow((1, 3, 32, 32), quantization(0.02, 4))
    flow.weighted("conv", Conv2d(stride=(2, 2), padding=(0, 1, 0, 1)), (8, 3, 3, 3), Q)
    assert plan(flow.graph()).mirror == (False, False)
    assert set(census(write_tflite(flow.graph())).kinds) == {"CONV_2D"}
    assert_exact(flow)


@pytest.mark.parametrize(
    ("filters", "padding", "kinds"),
    [
        ((64, 3, 7, 7), 3, {"PAD": 1, "CONV_2D": 1, "MAX_POOL_2D": 1}),  # GoogLeNet's start
        ((32, 3, 3, 3), 1, {"CONV_2D": 1, "MAX_POOL_2D": 1}),
        ((16, 1, 5, 5), 2, {"PAD": 1, "DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1}),  # XNNPACK ends at 25 taps
        ((16, 1, 3, 3), 1, {"DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1}),
    ],
)
def test_a_pad_is_taken_where_zero_taps_cost_more(
    filters: tuple[int, ...], padding: int, kinds: dict[str, int]
) -> None:
    """A pool that rounds up holds the picture as it is."""
    channels = 3 if filters[1] == 3 else 16
    flow = Flow((1, channels, 64, 64), quantization(0.02, 4))
    conv = Conv2d(stride=(2, 2), padding=(padding,) * 4, groups=channels // filters[1], activation=RELU)
    flow.weighted("stem", conv, filters, Q)
    flow.add("pool", MaxPool2d((3, 3), (2, 2), (0, 1, 0, 1)), "stem")
    assert plan(flow.graph()).mirror == (False, False)
    assert census(write_tflite(flow.graph())).kinds == kinds
    assert_exact(flow)


def test_mirrored_spatial_output_and_movement() -> None:
    """Slices, pads and concats along the mirrored axes, and a spatial output turned back."""
    flow = Flow((1, 3, 64, 40), quantization(0.02, 4), 1)
    flow.weighted("a", STRIDED, (64, 3, 3, 3), Q)
    flow.weighted("b", STRIDED, (64, 64, 3, 3), Q, "a")
    flow.weighted("c", STRIDED, (4, 64, 3, 3), Q, "b")
    flow.add("leaky", LeakyReLU(0.1), "c", q=Q)
    flow.add("pad", Pad((0, 0, 1, 0), (0, 0, 0, 3)), "leaky")
    flow.add("slice", Slice((0, 0, 2, 1), (1, 4, 9, 8), (1, 1, 3, 2)), "pad")
    flow.add("joined", Concat(3), "slice", "slice")
    flow.add("tall", Concat(2), "slice", "slice")
    graph = flow.graph("joined", "tall", "c")
    assert plan(graph).mirror == (True, True)
    assert_exact(flow, "joined", "tall", "c")
    samples = flow.samples(2)
    expected = run(graph, flow.entry.quantize(samples))
    found = LiteRTSession(write_tflite(graph), kernels="reference").run_integers(samples)
    for name, value in zip(graph.outputs, found, strict=True):
        np.testing.assert_array_equal(value, expected[name])


@EXAMPLES
@given(
    size=st.tuples(st.integers(13, 24), st.integers(13, 24)),
    strides=st.lists(st.integers(1, 3), min_size=2, max_size=2),
    kernels=st.lists(st.integers(1, 5), min_size=2, max_size=2),
    pad=st.integers(0, 2),
    seed=seeds,
)
def test_any_two_layers(size, strides, kernels, pad, seed) -> None:  # type: ignore[no-untyped-def]
    """One orientation has to serve both; whatever it costs, values stay."""
    flow = Flow((1, 3, *size), quantization(0.02, 4), seed)
    flow.weighted("a", Conv2d((strides[0],) * 2, (pad,) * 4), (6, 3, kernels[0], kernels[0]), Q)
    flow.weighted("b", Conv2d((strides[1],) * 2, (pad, 0, 0, pad), groups=6), (6, 1, min(kernels[1], 3), 2), Q, "a")
    flow.add("mean", GlobalAvgPool(), "b", q=quantization(0.01))
    assert_exact(flow)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_io_types(io: str) -> None:
    flow = strided_network((32, 32))
    assert_exact(flow, io=io)
    graph, samples = flow.graph(), flow.samples(4)
    data = write_tflite(graph, io=io)
    assert census(data).clean
    session = LiteRTSession(data, kernels="reference")
    expected = graph.quantizations["fc"].dequantize(run(graph, flow.entry.quantize(samples))["fc"])
    np.testing.assert_array_equal(session.run(samples)[0], expected)
    if io != "float32":
        assert session.run_integers(samples)[0].dtype == io


def test_io_of_another_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="float32"):
        write_tflite(strided_network((32, 32)).graph(), io="int16")


def test_flatten_feeds_the_linear_layer_without_a_reshape() -> None:
    flow = Flow((1, 3, 6, 6), quantization(0.02, 4))
    flow.add("mean", GlobalAvgPool(), q=quantization(0.01))
    flow.add("flat", Reshape((3,)), "mean")
    flow.weighted("fc", Linear(), (10, 3), Q, "flat")
    assert set(census(write_tflite(flow.graph())).kinds) == {"MEAN", "FULLY_CONNECTED"}


def test_activation_between_flatten_and_linear() -> None:
    flow = Flow((1, 3, 4, 5), quantization(0.02, 4))
    flow.add("flat", Reshape((60,)))
    flow.add("leaky", LeakyReLU(0.2), "flat", q=Q)
    flow.weighted("fc", Linear(), (10, 60), Q, "leaky")
    assert_exact(flow)


def test_everything_is_delegated_but_the_reversal() -> None:
    session = LiteRTSession(write_tflite(strided_network((48, 48)).graph()))
    assert session.executed_ops() == {"REVERSE_V2": 2, "DELEGATE": 1}


def test_tensors_carry_module_paths() -> None:
    flow = strided_network((32, 32))
    session = LiteRTSession(write_tflite(flow.graph()), kernels="reference", keep_all=True)
    names = set(session.intermediates(session.file_input(flow.samples(1))))
    assert {"stem", "pool", "project", "sum", "fc"} <= names


def test_bytes_are_deterministic() -> None:
    first, second = (write_tflite(strided_network((32, 32)).graph()) for _ in range(2))
    assert first == second
    assert b"/work" not in first
    assert b"home" not in first


def test_size_stays_near_its_content() -> None:
    """Per channel: weights, bias and the two scales runtimes demand; per op and its tensors, under 300 bytes."""
    flow = Flow((1, 16, 16, 16), quantization(0.02, 4))
    source = "x"
    for layer in range(30):
        source = flow.weighted(f"stage.{layer}.conv", Conv2d(padding=SAME3), (16, 16, 3, 3), Q, source)
    content = 30 * (16 * 16 * 9 + 16 * 12)
    assert len(write_tflite(flow.graph())) < content + 30 * 300 + 1000


def float_network(flow: Flow) -> Graph:
    """The flow's graph in real numbers."""
    graph = flow.graph()
    constants = {}
    for name, value in graph.constants.items():
        scale = graph.quantizations[name].scale
        constants[name] = (value * scale.reshape(-1, *[1] * (value.ndim - 1))).astype(np.float32)
    return Graph("float", graph.inputs, graph.outputs, graph.nodes, constants, graph.input_shapes)


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (96, 64)])
def test_float_file_computes_the_float_network(size: tuple[int, int]) -> None:
    from edgeq.graph.run import GraphModule

    torch = pytest.importorskip("torch")
    flow = strided_network(size)
    graph, samples = float_network(flow), flow.samples(3)
    data = write_tflite_float(graph)
    with torch.no_grad():
        expected = GraphModule(graph)(torch.from_numpy(samples)).numpy()
    for kernels in ("xnnpack", "reference"):
        found = LiteRTSession(data, kernels=kernels).run(samples)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
    assert census(data).float_ops > 0


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_float_layers_without_a_bias_run(groups: int) -> None:
    """LiteRT's float kernels refuse a convolution without one, or crash on it."""
    flow = Flow((1, 8, 6, 5), Q)
    flow.weighted("conv", Conv2d(groups=groups), (8, 8 // groups, 3, 3), Q, bias=False)
    flow.add("flat", Reshape((8 * 4 * 3,)), "conv")
    flow.weighted("fc", Linear(), (3, 8 * 4 * 3), Q, "flat", bias=False)
    samples = flow.samples(1)
    graph = float_network(flow)
    weights = [graph.constants[f"{name}.weight"] for name in ("conv", "fc")]
    session = LiteRTSession(write_tflite_float(graph), kernels="reference")
    windows = np.lib.stride_tricks.sliding_window_view(samples[0], (3, 3), (1, 2))
    each, out = 8 // groups, []
    for channel, weight in enumerate(weights[0]):
        first = channel // (8 // groups) * each
        out.append(np.einsum("cyxhw,chw->yx", windows[first : first + each], weight))
    expected = weights[1] @ np.stack(out).reshape(-1)
    np.testing.assert_allclose(session.run(samples)[0][0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_unfolded_batch_norm_is_refused() -> None:
    flow = Flow((1, 3, 4, 4), Q)
    for name in ("gamma", "beta", "mean", "variance"):
        flow.constants[name] = np.ones(3, np.float32)
        flow.quantizations[name] = Q
    flow.add("norm", BatchNorm(), "x", "gamma", "beta", "mean", "variance")
    with pytest.raises(UnsupportedError, match=r"BatchNorm.*norm.*fold"):
        write_tflite(flow.graph())


def test_average_pool_that_leaves_padding_out_is_refused_where_same_cannot() -> None:
    flow = Flow((1, 3, 9, 9), Q)
    flow.add("pool", AvgPool2d((3, 3), (2, 2), (2, 2, 2, 2)))
    with pytest.raises(UnsupportedError, match="pool"):
        write_tflite(flow.graph())


def test_moving_op_cannot_rescale() -> None:
    flow = Flow((1, 3, 9, 9), Q)
    flow.add("pool", MaxPool2d(), q=quantization(0.3))
    with pytest.raises(UnsupportedError, match=r"MaxPool2d.*pool"):
        write_tflite(flow.graph())
