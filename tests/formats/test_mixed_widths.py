"""8-bit and 16-bit activations in one network: where conversions stand, and that every value of every op is exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.read import read_tflite
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    RELU,
    RELU6,
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Mul,
    Requantize,
    Reshape,
    Sigmoid,
)
from edgeq.graph.passes.insert_requantize import remove_requantize
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import specify

RANGE = (-2.5, 2.5)
LAYERS = ("stem", "depth", "point", "gate.fc", "left", "right", "far", "box", "fc")


def network() -> Graph:
    """A stem read twice, a depthwise block with its residual, squeeze-and-excitation, two branches joined (one through
    a leaky ReLU), pools of three kinds, and two heads: a map, and classes behind an average."""
    rng = np.random.default_rng(7)
    shapes = {
        "stem": (8, 3, 3, 3),
        "depth": (8, 1, 3, 3),
        "point": (8, 8, 1, 1),
        "gate.fc": (8, 8, 1, 1),
        "left": (4, 8, 1, 1),
        "right": (4, 8, 3, 3),
        "far": (8, 8, 3, 3),
        "box": (4, 8, 1, 1),
        "fc": (5, 8),
    }
    constants = {
        f"{name}.w": rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in shapes.items()
    } | {f"{name}.b": rng.normal(0, 0.2, shape[0]).astype(np.float32) for name, shape in shapes.items()}
    same = (1, 1, 1, 1)

    def layer(name: str, op: Conv2d | Linear, source: str) -> Node:
        return Node(name, op, (source, f"{name}.w", f"{name}.b"))

    nodes = (
        layer("stem", Conv2d((2, 2), same, activation=RELU6), "x"),
        layer("depth", Conv2d(padding=same, groups=8, activation=RELU), "stem"),
        layer("point", Conv2d(), "depth"),
        Node("sum", Add(RELU), ("point", "stem")),
        Node("squeeze", GlobalAvgPool(), ("sum",)),
        layer("gate.fc", Conv2d(), "squeeze"),
        Node("gate", Sigmoid(), ("gate.fc",)),
        Node("gated", Mul(), ("sum", "gate")),
        layer("left", Conv2d(), "gated"),
        layer("right", Conv2d(padding=same, activation=RELU), "gated"),
        Node("bent", LeakyReLU(0.1), ("left",)),
        Node("both", Concat(1), ("bent", "right")),
        Node("max", MaxPool2d((2, 2), (2, 2)), ("both",)),
        Node("smooth", AvgPool2d((2, 2), (1, 1)), ("max",)),
        layer("far", Conv2d(padding=same, activation=RELU), "smooth"),
        layer("box", Conv2d(), "far"),
        Node("mean", GlobalAvgPool(), ("far",)),
        Node("flat", Reshape((8,)), ("mean",)),
        layer("fc", Linear(), "flat"),
    )
    return Graph("net", ("x",), ("box", "fc"), nodes, constants, {"x": (1, 3, 14, 12)})


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(0, 1, (count, 3, 14, 12)), *RANGE).astype(np.float32)


def scheme(*layers: str, bits: str = "w8a8", ends: int | None = None) -> Scheme:
    return replace(Scheme.of(bits, layers=layers), ends=(ends, ends))


def frozen(plain: Graph, asked: Scheme, inputs: np.ndarray) -> IntegerGraph:
    given = CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "test")
    graph = apply_mixed_precision(plain, asked)
    return quantize(graph, given, RANGE, asked)


def copies(graph: Graph) -> set[str]:
    return {node.name for node in graph.of_kind(Requantize)}


def wide(integer: IntegerGraph) -> set[str]:
    values = (*integer.inputs, *(node.name for node in integer.nodes))
    return {name for name in values if integer.quantizations[name].dtype == "int16"}


@settings(max_examples=16, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    bits=st.tuples(*[st.sampled_from(["w8a8", "w4a8", "w8a16", "w4a16"])] * len(LAYERS)),
    base=st.sampled_from(["w8a8", "w8a16"]),
    ends=st.sampled_from([None, 8, 16]),
    io=st.sampled_from([None, "float32"]),
)
def test_any_widths_of_any_layers_are_exact(bits, base, ends, io) -> None:  # type: ignore[no-untyped-def]
    asked = scheme(*(f"{name}={one}" for name, one in zip(LAYERS, bits, strict=True)), bits=base, ends=ends)
    integer = frozen(network(), asked, images(4))
    told = {name: one.endswith("a16") for name, one in zip(LAYERS, bits, strict=True)}
    assert {name for name in LAYERS if told[name]} == wide(integer) & {*LAYERS}
    assert all(int(integer.quantizations[name].zero_point) == 0 for name in wide(integer))
    for name in LAYERS:
        assert integer.constants[f"{name}.b"].dtype == (np.int64 if told[name] else np.int32)
        assert integer.constants[f"{name}.w"].dtype == np.int8
    packed = "int8" if integer.activation_types == {"int16"} else "int4"
    data = write_tflite(integer, io=io, weights=packed)
    found = census(data)
    assert found.clean
    assert found.requantize == sum(isinstance(node.op, Requantize) for node in integer.nodes)
    exactness = verify_tflite(integer, data, images(2, 1))
    assert exactness.exact, exactness.first_difference


def test_a_value_is_converted_once_however_many_read_it() -> None:
    graph = apply_mixed_precision(network(), scheme("left=w8a16", "right=w8a16", "box=w8a16"))
    assert copies(graph) == {"sum/a16", "gate/a16", "smooth/a8", "far/a16"}
    readers = graph.consumers()
    assert [node.name for node in readers["far"]] == ["far/a16", "mean"]
    assert apply_mixed_precision(graph, scheme("left=w8a16", "right=w8a16", "box=w8a16")) is graph


def test_sums_and_averages_join_the_layer_they_are_made_for() -> None:
    """The average, and not its flattening alone: the classifier would read 8 bits as 16."""
    graph = apply_mixed_precision(network(), scheme("fc=w8a16"))
    assert copies(graph) == {"far/a16"}
    integer = frozen(network(), scheme("fc=w8a16"), images(4))
    assert wide(integer) == {"far/a16", "mean", "flat", "fc"}
    # Behind a maximum nothing is gained: what it selects has 8 bits.
    assert copies(apply_mixed_precision(network(), scheme("far=w8a16", "box=w8a16", "fc=w8a16"))) == {"max/a16"}
    # Nothing is lost either: a sum with one input of 16 bits has 16.
    wide_sum = {"depth/a16", "stem/a16", "gate/a16", "squeeze/a8", "gated/a8"}
    assert copies(apply_mixed_precision(network(), scheme("point=w8a16"))) == wide_sum


def test_ends_have_the_type_of_their_ops_or_what_is_asked() -> None:
    everything = {"stem=w8a16", "box=w8a16"}
    integer = frozen(network(), scheme(*everything), images(4))
    assert [integer.quantizations[name].dtype for name in ("x", *integer.outputs)] == ["int16", "int16", "int8"]
    for ends, kind in ((8, "int8"), (16, "int16")):
        integer = frozen(network(), scheme(*everything, ends=ends), images(4))
        for io in (None, kind):
            found = read_tflite(write_tflite(integer, io=io))
            assert {t.type for t in (*found.inputs, *found.outputs)} == {kind}
        with pytest.raises(ConfigError, match="rounded twice"):
            write_tflite(integer, io="int8" if ends == 16 else "int16")
    assert integer.outputs == ("box", "fc/a16")


def test_what_the_network_can_be_fed_survives_widening_though_it_was_never_seen() -> None:
    dark = np.full((4, 3, 14, 12), -0.1, np.float32) * np.arange(1, 5).reshape(4, 1, 1, 1).astype(np.float32)
    integer = frozen(network(), scheme("stem=w8a16", ends=8), dark)
    every = np.resize(np.arange(-128, 128), (1, 3, 14, 12))
    made = run(integer, every)["x/a16"]
    x, y = integer.quantizations["x"], integer.quantizations["x/a16"]
    np.testing.assert_array_equal(y.dequantize(made), x.dequantize(every))


def test_sixteen_bits_where_they_are_asked_for_help() -> None:
    graph, inputs = network(), images(24)
    real = GraphModule(graph).run(torch.from_numpy(inputs))["box"].numpy()

    def error(*layers: str) -> float:
        integer = frozen(graph, scheme(*layers), inputs)
        made = run(integer, integer.quantizations["x"].quantize(inputs))["box"]
        return float(np.square(integer.quantizations["box"].dequantize(made) - real).mean())

    assert error("box=w8a16") < 0.9 * error()
    assert error("far=w8a16", "box=w8a16") < 0.9 * error("box=w8a16")
    assert error("*=w8a16") < 0.2 * error()


def test_float_files_and_other_runtimes_know_nothing_of_it() -> None:
    graph = apply_mixed_precision(network(), scheme("left=w8a16", ends=16))
    assert remove_requantize(graph).nodes == network().nodes
    assert remove_requantize(graph).outputs == network().outputs
    session, plain = (LiteRTSession(write_tflite_float(one)) for one in (graph, network()))
    for one, other in zip(session.run(images(2)), plain.run(images(2)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UnsupportedError, match="16-bit activations in an ONNX file"):
        write_onnx(frozen(network(), scheme("left=w8a16"), images(4)), activations="uint8")


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="no convolution or linear layer is called that"):
        apply_mixed_precision(network(), scheme("heads.*=w8a16"))
    with pytest.raises(UnsupportedError, match="8-bit and 16-bit values meet") as caught:
        specify(network(), RANGE, scheme("far=w8a16"))
    assert caught.value.where == "smooth"
