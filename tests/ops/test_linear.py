"""Linear: per-channel and per-tensor weights, straight or through a flatten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.graph.ops import RELU, RELU6, Linear, Reshape
from edgeq.integer.graph import Quantization
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, zero_points


@EXAMPLES
@given(
    features=st.integers(1, 40),
    rows=st.integers(1, 20),
    x=scales,
    y=scales,
    xz=zero_points,
    yz=zero_points,
    bias=st.booleans(),
    tie=st.booleans(),
    activation=st.sampled_from([None, RELU, RELU6]),
    seed=seeds,
)
def test_tflite(features, rows, x, y, xz, yz, bias, tie, activation, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, features), quantization(x, xz), seed)
    flow.weighted("fc", Linear(activation), (rows, features), quantization(y, yz), bias=bias, tie=tie)
    assert_exact(flow, count=20)


@EXAMPLES
@given(c=st.integers(1, 4), h=st.integers(1, 5), w=st.integers(1, 5), seed=seeds)
def test_tflite_through_flatten(c: int, h: int, w: int, seed: int) -> None:
    flow = Flow((1, c, h, w), quantization(0.02, 5), seed)
    flow.add("flat", Reshape((c * h * w,)))
    flow.weighted("fc", Linear(), (6, c * h * w), quantization(0.05, -3), "flat")
    assert_exact(flow)


def test_tflite_one_scale_for_all_rows() -> None:
    flow = Flow((1, 32), quantization(0.02, 5))
    flow.weighted("fc", Linear(), (24, 32), quantization(0.05, -3))
    scale = flow.quantizations["fc.weight"].scale[0]
    flow.quantizations["fc.weight"] = Quantization(scale, np.int32(0))  # type: ignore[arg-type]
    flow.quantizations["fc.bias"] = Quantization(np.float32(0.02) * scale, np.int32(0), "int32")  # type: ignore[arg-type]
    assert_exact(flow, count=50)


def test_tflite_product_just_below_a_tie() -> None:
    """A ratio of 1/2 less 2^-47: fixed-point multipliers round it to 1/2, this kernel does not."""
    flow = Flow((1, 2), quantization(1 + 2**-23, 3))
    flow.weighted("fc", Linear(), (64, 2), quantization(2.0), bias=False)
    flow.constants["fc.weight"] = np.sign(flow.constants["fc.weight"])
    flow.quantizations["fc.weight"] = Quantization(
        np.full(64, 1 - 2**-23, np.float32), np.zeros(64, np.int32), "int8", 0
    )
    assert_exact(flow, count=20)
