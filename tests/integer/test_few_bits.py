"""Below eight bits: the reference against Python integers, one by one, and files where a runtime can follow."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.read import read_tflite
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, Conv2d, GlobalAvgPool, Linear, MaxPool2d, Reshape
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST

RANGE = (-2.0, 2.0)
Ints = npt.NDArray[Any]


def network(seed: int = 5) -> Graph:
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> npt.NDArray[np.float32]:
        return rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "stem.w": weight(4, 3, 3, 3),
        "depth.w": weight(4, 1, 3, 3),
        "point.w": weight(4, 4, 1, 1),
        "fc.w": weight(3, 4),
        "stem.b": rng.normal(0, 0.3, 4).astype(np.float32),
        "fc.b": rng.normal(0, 0.3, 3).astype(np.float32),
    }
    same = (1, 1, 1, 1)
    nodes = (
        Node("stem", Conv2d(padding=same, activation=RELU), ("x", "stem.w", "stem.b")),
        Node("depth", Conv2d(padding=same, groups=4, activation=RELU), ("stem", "depth.w")),
        Node("point", Conv2d(), ("depth", "point.w")),
        Node("sum", Add(RELU), ("point", "stem")),
        Node("pool", MaxPool2d((3, 3), (2, 2), same), ("sum",)),
        Node("mean", GlobalAvgPool(), ("pool",)),
        Node("flat", Reshape((4,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w", "fc.b")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 6, 6)})


def images(count: int = 8, seed: int = 0, spread: float = 1.0) -> npt.NDArray[np.float32]:
    return np.clip(np.random.default_rng(seed).normal(0, spread, (count, 3, 6, 6)), *RANGE).astype(np.float32)


def frozen(bits: str, *, all_layers: bool = False, seed: int = 5, widest: int = 8) -> IntegerGraph:
    graph, inputs = network(seed), images(16)
    decided = calibrate(
        graph,
        CalibrationSet(inputs, np.full(16, -1, np.int64), "test"),
        RANGE,
        scheme=Scheme.of(bits, all_layers=all_layers, widest=widest),
    )
    return freeze(graph, decided).graph


def scaled(value: int, real: float) -> int:
    """`value` x `real` in fixed point: a 31-bit fraction, rounded, then a power of two, rounded away from zero."""
    mantissa, exponent = math.frexp(real)
    value <<= max(exponent, 0)
    value = (value * math.floor(mantissa * 2**31 + 0.5) + 2**30) >> 31
    right = max(-exponent, 0)
    sign = -1 if value < 0 else 1
    return sign * ((abs(value) + ((1 << right) >> 1)) >> right)


def naive(graph: IntegerGraph, image: Ints, bits: int) -> dict[str, Ints]:
    """The network above, written out by hand: `bits` is what the narrow activations saturate at."""
    few, eight = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), (-128, 127)
    scale = {name: q.scale.astype(np.float64) for name, q in graph.quantizations.items()}
    zero = {name: int(q.zero_point) for name, q in graph.quantizations.items() if q.axis is None}
    values = {"x": image.astype(int)}

    def saturate(number: int, limits: tuple[int, int], *, relu: bool, name: str) -> int:
        return min(max(number + zero[name], zero[name] if relu else limits[0]), limits[1])

    def convolve(name: str, source: str, weight: str, bias: str, limits: tuple[int, int], *, relu: bool) -> None:
        x, w = values[source], graph.constants[weight].astype(int)
        reach, (depth, size) = w.shape[2] // 2, (w.shape[1], x.shape[1])
        made = np.zeros((len(w), size, size), int)
        for o in range(len(w)):
            ratio = float(scale[source]) * float(scale[weight][o]) / float(scale[name])
            for i in range(size):
                for j in range(size):
                    total = int(graph.constants[bias][o])
                    for c in range(depth):
                        for di in range(-reach, reach + 1):
                            for dj in range(-reach, reach + 1):
                                if 0 <= i + di < size and 0 <= j + dj < size:
                                    pixel = int(x[o if depth == 1 and name == "depth" else c, i + di, j + dj])
                                    total += (pixel - zero[source]) * int(w[o, c, di + reach, dj + reach])
                    made[o, i, j] = saturate(scaled(total, ratio), limits, relu=relu, name=name)
        values[name] = made

    convolve("stem", "x", "stem.w", "stem.b", few, relu=True)
    convolve("depth", "stem", "depth.w", "depth.bias", few, relu=True)
    convolve("point", "depth", "point.w", "point.bias", eight, relu=False)
    twice = 2 * max(float(scale["point"]), float(scale["stem"]))
    back = twice / (2**20 * float(scale["sum"]))
    values["sum"] = np.zeros_like(values["stem"])
    for place in np.ndindex(values["sum"].shape):
        parts = [scaled((int(values[n][place]) - zero[n]) << 20, float(scale[n]) / twice) for n in ("point", "stem")]
        values["sum"][place] = saturate(scaled(sum(parts), back), few, relu=True, name="sum")
    values["pool"] = np.array(
        [[[max(c[_window(i), _window(j)].flat) for j in range(3)] for i in range(3)] for c in values["sum"]]
    )
    return values


def _window(index: int) -> slice:
    """Three pixels, every second place, one pixel of padding."""
    return slice(max(2 * index - 1, 0), 2 * index + 2)


@pytest.mark.parametrize(("bits", "narrow"), [("w4a8", 8), ("w6a6", 6), ("w4a4", 4), ("w2a2", 2)])
@pytest.mark.parametrize("all_layers", [False, True])
def test_reference_equals_python_integers(bits: str, narrow: int, all_layers: bool) -> None:
    graph = frozen(bits, all_layers=all_layers)
    inputs = graph.quantizations["x"].quantize(images(2, seed=9, spread=2.0))
    found = run(graph, inputs)
    for row, image in enumerate(inputs):
        expected = naive(graph, image, narrow)
        for name in ("stem", "depth", "point", "sum", "pool"):
            np.testing.assert_array_equal(found[name][row], expected[name], err_msg=name)
        ends = expected["stem"]
        assert ends.max() == 2 ** (narrow - 1) - 1  # something did saturate, or the test shows nothing
        assert ends.min() == -(2 ** (narrow - 1))


@pytest.mark.parametrize("all_layers", [False, True])
@pytest.mark.parametrize("bits", ["w4a8", "w2a8"])
def test_few_bit_weights_run_exactly_in_both_formats(bits: str, all_layers: bool) -> None:
    graph = frozen(bits, all_layers=all_layers, widest=WIDEST)
    inputs = images(4, seed=3)
    assert verify_tflite(graph, write_tflite(graph), inputs).exact
    for kind in ("int8", "uint8"):
        done = verify_onnx(graph, write_onnx(graph, activations=kind), inputs, kind)
        assert done.values > 0
        assert done.max_step <= 1


def test_few_bit_activations_are_refused_by_both_writers() -> None:
    graph = frozen("w4a4")
    with pytest.raises(UnsupportedError, match="fewer than 8 bits"):
        write_tflite(graph)
    with pytest.raises(UnsupportedError, match="fewer than 8 bits"):
        write_onnx(graph, activations="int8")


def test_more_bits_are_closer() -> None:
    """Signal to noise at the logits grows with the bits: the median of seven networks, because a single one's logits
    are three numbers that can come out right by chance."""
    inputs = images(16, seed=4)
    noise = []
    for bits in ("w2a2", "w4a4", "w6a6", "w8a8"):
        found = []
        for seed in range(7):
            with torch.no_grad():
                real = GraphModule(network(seed))(torch.from_numpy(inputs)).numpy()
            graph = frozen(bits, seed=seed)
            logits = run(graph, graph.quantizations["x"].quantize(inputs))["fc"]
            found.append(float(np.square(graph.quantizations["fc"].dequantize(logits) - real).mean() / real.var()))
        noise.append(float(np.median(found)))
    assert all(after < 0.5 * before for before, after in itertools.pairwise(noise))


def test_four_bit_weights_packed_two_a_byte_compute_the_same() -> None:
    integer = frozen("w4a8", all_layers=True)
    plain, packed = write_tflite(integer), write_tflite(integer, weights="int4")
    assert len(packed) < len(plain)
    assert census(packed).float_ops == 0
    types = {op.constants[0].type for op in read_tflite(packed).ops if op.macs}
    assert types == {"int4"}
    found = verify_tflite(integer, packed, images(32))
    assert found.equal == found.values
    wider = frozen("w5a8", all_layers=True)
    assert write_tflite(wider, weights="int4") == write_tflite(wider)
    with pytest.raises(ConfigError, match="cannot store weights as 'int3'"):
        write_tflite(integer, weights="int3")
