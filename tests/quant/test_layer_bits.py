"""Bits of single layers: which patterns reach which layers, what shares a grid decides together, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.tflite.read import read_tflite
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, Conv2d, GlobalAvgPool, Linear, MaxPool2d, Requantize, Reshape
from edgeq.integer.graph import IntegerGraph
from edgeq.quant.bits import weight_bits
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import specify

RANGE = (-2.0, 2.0)


@pytest.fixture
def graph() -> Graph:
    """A stem, a block of two with a residual, two branches that read one value, a classifier."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    names = ("block.0.one", "block.0.two", "left", "right")
    constants = {f"{name}.w": weight(8, 8, 3, 3) for name in names}
    constants |= {"stem.w": weight(8, 3, 3, 3), "fc.w": weight(5, 8)}
    layer = Conv2d(padding=(1, 1, 1, 1), activation=RELU)
    nodes = (
        Node("stem", layer, ("x", "stem.w")),
        Node("block.0.one", layer, ("stem", "block.0.one.w")),
        Node("block.0.two", Conv2d(padding=(1, 1, 1, 1)), ("block.0.one", "block.0.two.w")),
        Node("sum", Add(RELU), ("block.0.two", "stem")),
        Node("pool", MaxPool2d((2, 2), (2, 2)), ("sum",)),
        Node("left", layer, ("pool", "left.w")),
        Node("right", layer, ("pool", "right.w")),
        Node("both", Add(RELU), ("left", "right")),
        Node("mean", GlobalAvgPool(), ("both",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})


def images() -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(0, 1, (16, 3, 8, 8)), *RANGE).astype(np.float32)


def frozen(graph: Graph, scheme: Scheme) -> IntegerGraph:
    given = CalibrationSet(images(), np.full(16, -1, np.int64), "test")
    return quantize(graph, given, RANGE, scheme)


def weights(graph: Graph, *layers: str, bits: str = "w8a8", widest: int = 8) -> dict[str, int]:
    found = weight_bits(graph, Scheme.of(bits, layers=layers, widest=widest))
    return {name.removesuffix(".w"): count for name, count in found.items() if count != min(8, widest)}


def test_the_last_pattern_that_matches_counts(graph: Graph) -> None:
    assert weights(graph, "block.*=w4a8") == {"block.0.one": 4, "block.0.two": 4}
    assert weights(graph, "block.*=w4a8", "*.two=w3a8") == {"block.0.one": 4, "block.0.two": 3}
    assert weights(graph, "*.two=w3a8", "block.*=w4a8") == {"block.0.one": 4, "block.0.two": 4}
    assert weights(graph, "left=w8a8", bits="w4a8") == {"block.0.one": 4, "block.0.two": 4, "right": 4}


def test_a_named_layer_has_its_bits_though_it_is_the_first_or_last(graph: Graph) -> None:
    assert weights(graph, "stem=w4a8", "fc=w5a8") == {"stem": 4, "fc": 5}


def test_a_narrow_target_caps_named_layers_too(graph: Graph) -> None:
    scheme = Scheme.of("w4a8", layers=("left=w8a8",), widest=7)
    assert weight_bits(graph, scheme)["left.w"] == 7
    assert scheme.widest_weights == 7


def test_a_pattern_that_matches_nothing_names_the_nearest_layer(graph: Graph) -> None:
    for pattern, near in (("blocks.0.one", "block.0.one"), ("lift*", "left")):
        with pytest.raises(ConfigError, match="no convolution or linear layer is called that") as caught:
            specify(graph, RANGE, Scheme.of("w8a8", layers=(f"{pattern}=w4a8",)))
        assert caught.value.hint == f"the nearest is {near!r}"


def test_a_mixture_is_exact_and_stored_as_said(graph: Graph) -> None:
    integer = frozen(graph, Scheme.of("w8a8", layers=("block.*=w4a8", "left=w6a8")))
    limits = {name: int(np.abs(array.astype(int)).max()) for name, array in integer.constants.items() if ".w" in name}
    assert limits == {
        "stem.w": 127,
        "block.0.one.w": 7,
        "block.0.two.w": 7,
        "left.w": 31,
        "right.w": 127,
        "fc.w": 127,
    }
    data = write_tflite(integer, weights="int4")
    found = verify_tflite(integer, data, images())
    assert found.exact, found.first_difference
    types = {op.outputs[0].name.split(":")[1]: op.constants[0].type for op in read_tflite(data).ops if op.macs}
    assert types == {
        "stem": "int8",
        "block.0.one": "int4",
        "block.0.two": "int4",
        "left": "int8",
        "right": "int8",
        "fc": "int8",
    }


def test_activations_of_a_named_layer_are_those_it_reads(graph: Graph) -> None:
    assert frozen(graph, Scheme.of("w8a8", layers=("*.two=w8a4",))).narrow() == ("block.0.one",)
    both = frozen(graph, Scheme.of("w8a8", layers=("left=w8a4", "right=w2a4")))
    assert both.narrow() == ("sum", "pool")
    kept = frozen(graph, Scheme.of("w4a4", layers=("block.*=w4a8",))).narrow()
    assert kept == ("sum", "pool", "left", "right", "both")  # not: what the block reads
    assert frozen(graph, Scheme.of("w8a8", layers=("stem=w8a4", "fc=w8a4"))).narrow() == ()  # an input, a mean


def test_layers_that_read_one_value_must_agree(graph: Graph) -> None:
    for layers in (("left=w8a4",), ("left=w8a4", "right=w8a6")):
        with pytest.raises(UnsupportedError, match="activations for one value") as caught:
            specify(graph, RANGE, Scheme.of("w8a8", layers=layers))
        assert "left" in caught.value.why
        assert "right" in caught.value.why


def test_16_bits_mix_with_weights_of_any(graph: Graph) -> None:
    mixed = frozen(graph, Scheme.of("w8a16", layers=("left=w4a16",)))
    found = verify_tflite(mixed, write_tflite(mixed), images())
    assert found.exact, found.first_difference
    assert mixed.activation_types == {"int16"}
    assert int(np.abs(mixed.constants["left.w"].astype(int)).max()) == 7


def test_layers_that_read_one_value_need_not_agree_on_16(graph: Graph) -> None:
    scheme = Scheme.of("w8a4", layers=("left=w8a16", "*.two=w8a8"))
    apart = apply_mixed_precision(graph, scheme)
    assert [node.name for node in apart.nodes if isinstance(node.op, Requantize)] == [
        "pool/a16",
        "right/a16",
        "flat/a8",
    ]
    integer = frozen(apart, scheme)
    assert integer.quantizations["pool"].bits == 4
    assert {"pool/a16", "left", "right/a16", "both", "mean", "flat"} == {
        name for name, q in integer.quantizations.items() if q.dtype == "int16"
    }
