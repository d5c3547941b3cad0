"""Which weight and activation gets how many bits, and the scales of few-bit weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, Conv2d, GlobalAvgPool, Linear, MaxPool2d, Reshape, Softmax
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.quant.bits import weight_bits
from edgeq.quant.fakequant import quantize_weight, weight_integers
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme, parse_bits
from edgeq.quant.weight_scales import max_scales, mse_scales

RANGE = (-2.0, 2.0)


@pytest.fixture
def graph() -> Graph:
    """Stem, a residual block, pooling, mean, classifier: every place where the bits could go wrong."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "stem.w": weight(8, 3, 3, 3),
        "one.w": weight(8, 8, 3, 3),
        "two.w": weight(8, 8, 3, 3),
        "fc.w": weight(5, 8),
        "stem.b": rng.normal(0, 0.3, 8).astype(np.float32),
    }
    same = (1, 1, 1, 1)
    nodes = (
        Node("stem", Conv2d(padding=same, activation=RELU), ("x", "stem.w", "stem.b")),
        Node("one", Conv2d(padding=same, activation=RELU), ("stem", "one.w")),
        Node("two", Conv2d(padding=same), ("one", "two.w")),
        Node("sum", Add(RELU), ("two", "stem")),
        Node("pool", MaxPool2d((2, 2), (2, 2)), ("sum",)),
        Node("mean", GlobalAvgPool(), ("pool",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w")),
        Node("soft", Softmax(), ("fc",)),
    )
    return Graph("net", ("x",), ("soft",), nodes, constants, {"x": (1, 3, 8, 8)})


def frozen(graph: Graph, scheme: Scheme) -> IntegerGraph:
    inputs = np.clip(np.random.default_rng(0).normal(0, 1, (16, 3, 8, 8)), *RANGE).astype(np.float32)
    images = CalibrationSet(inputs, np.full(16, -1, np.int64), "test")
    return quantize(graph, images, RANGE, scheme)


def test_bits_are_read_and_refused() -> None:
    assert [parse_bits(text) for text in ("w8a8", "w4a8", "w2a3")] == [(8, 8), (4, 8), (2, 3)]
    assert parse_bits("w4a16") == (4, 16)
    for text in ("w1a8", "w9a8", "w16a16", "w8a12", "4/8", "w4", "W4A8"):
        with pytest.raises(ConfigError, match="wNaM"):
            parse_bits(text)


def test_a_narrow_target_caps_every_layer() -> None:
    assert Scheme.of("w8a8", widest=7) == Scheme(7, 8, 7)
    assert Scheme.of("w4a8", widest=7) == Scheme(4, 8, 7)
    assert Scheme.of("w4a8", all_layers=True) == Scheme(4, 8, None)
    assert [Scheme.of("w4a8", all_layers=a).widest_weights for a in (True, False)] == [4, 8]


def test_first_and_last_weights_keep_eight_bits_unless_all_layers(graph: Graph) -> None:
    assert weight_bits(graph, Scheme.of("w4a4")) == {"stem.w": 8, "one.w": 4, "two.w": 4, "fc.w": 8}
    assert set(weight_bits(graph, Scheme.of("w4a4", all_layers=True)).values()) == {4}


def test_a_module_s_path_means_all_layers_in_it(graph: Graph) -> None:
    names = {"one": "block.one.conv", "two": "block.two", "stem": "stem.0"}
    nodes = tuple(
        Node(names.get(n.name, n.name), n.op, tuple(names.get(name, name) for name in n.inputs)) for n in graph.nodes
    )
    renamed = Graph("net", ("x",), ("soft",), nodes, graph.constants, graph.input_shapes)

    def fours(pattern: str) -> set[str]:
        found = weight_bits(renamed, Scheme.of("w8a8", layers=(f"{pattern}=w4a8",)))
        return {weight for weight, bits in found.items() if bits == 4}

    assert fours("block") == fours("bloc?") == {"one.w", "two.w"}
    assert fours("block.one") == fours("block.one.conv") == {"one.w"}
    with pytest.raises(ConfigError, match="no convolution or linear layer"):
        fours("bloc")


def test_few_bits_are_for_what_layers_multiply(graph: Graph) -> None:
    integer = frozen(graph, Scheme.of("w4a4"))
    assert integer.narrow() == ("stem", "one", "sum", "pool")  # not: input, branch before the sum, mean, outputs
    assert frozen(graph, Scheme.of("w4a8")).narrow() == ()


def test_a_classifier_that_reads_activations_keeps_eight_only_by_default(graph: Graph) -> None:
    nodes = (*graph.nodes[:4], Node("flat", Reshape((512,)), ("sum",)), Node("fc", Linear(), ("flat", "fc.w")))
    wide = np.zeros((5, 512), np.float32)
    wide[:, :5] = np.eye(5)
    flat = graph.replace(nodes=nodes, outputs=("fc",), constants={**graph.constants, "fc.w": wide})
    assert frozen(flat, Scheme.of("w4a4")).narrow() == ("stem", "one")
    assert frozen(flat, Scheme.of("w4a4", all_layers=True)).narrow() == ("stem", "one", "sum", "flat")


def test_integers_stay_within_their_bits(graph: Graph) -> None:
    for bits in range(2, 9):
        integer = frozen(graph, Scheme.of(f"w{bits}a{bits}", all_layers=True))
        limit = 2 ** (bits - 1) - 1
        for name in ("stem.w", "one.w", "two.w", "fc.w"):
            weights = integer.constants[name]
            assert weights.dtype == np.int8
            assert int(np.abs(weights.astype(int)).max()) == limit
        assert integer.quantizations["stem"].limits == (-limit - 1, limit)
        assert int(integer.quantizations["stem"].zero_point) == -limit - 1


def test_bits_survive_saving_and_change_the_digest(graph: Graph, tmp_path) -> None:
    integer = frozen(graph, Scheme.of("w4a4"))
    path = tmp_path / "integer.safetensors"
    path.write_bytes(integer.to_bytes())
    loaded = IntegerGraph.load(path)
    assert loaded.digest() == integer.digest()
    assert {k: q.bits for k, q in loaded.quantizations.items()} == {k: q.bits for k, q in integer.quantizations.items()}
    assert {q.bits for q in loaded.quantizations.values()} == {None, 4}
    widened = {name: Quantization(q.scale, q.zero_point, q.dtype, q.axis) for name, q in integer.quantizations.items()}
    other = IntegerGraph(
        integer.name, integer.inputs, integer.outputs, integer.nodes, integer.constants, widened, integer.input_shapes
    )
    assert other.digest() != integer.digest()


def test_a_quantization_with_all_its_storage_s_bits_is_the_plain_one() -> None:
    scale, zero = np.float32(0.5), np.int32(3)
    assert Quantization(scale, zero, bits=8) == Quantization(scale, zero)
    for bits in (1, 9):
        with pytest.raises(UnsupportedError, match="bits in int8"):
            Quantization(scale, zero, bits=bits)
    with pytest.raises(UnsupportedError, match="zero points"):
        Quantization(scale, np.int32(8), bits=4)


@given(st.integers(0, 10_000), st.integers(2, 7), st.booleans())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_searched_scales_are_never_worse_than_the_largest_weight_s(seed: int, bits: int, outlier: bool) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, (6, 4, 3, 3)).astype(np.float32)
    weight[:, 0, 0, 0] *= 8 if outlier else 1
    weight[2] = 0.0
    limit = 2 ** (bits - 1) - 1

    def errors(scales: np.ndarray) -> np.ndarray:
        scale = np.maximum(scales, 1e-12).reshape(-1, 1, 1, 1)
        held = np.clip(np.round(weight / scale), -limit, limit) * scale
        return np.square(held - weight).sum((1, 2, 3))

    searched, plain = errors(mse_scales(weight, limit)), errors(max_scales(weight, limit))
    assert np.all(searched <= plain * (1 + 1e-5))


def test_an_outlier_is_clipped_where_that_pays() -> None:
    weight = np.random.default_rng(2).normal(0, 1, (1, 64, 3, 3)).astype(np.float32)
    weight[0, 0, 0, 0] = 12.0
    assert mse_scales(weight, 7)[0] < 0.7 * max_scales(weight, 7)[0]


def test_eight_bit_weights_reach_the_largest() -> None:
    weight = np.random.default_rng(1).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    quantization = quantize_weight(weight)
    np.testing.assert_allclose(quantization.scale, np.abs(weight).reshape(4, -1).max(1) / 127, rtol=1e-6)
    assert np.abs(weight_integers(weight, quantization)).reshape(4, -1).max(1).tolist() == [127] * 4
