"""Add: two scales into a third."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeq.graph.ops import RELU, RELU6, Add, Clamp
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, zero_points


@EXAMPLES
@given(
    a=scales,
    b=scales,
    y=scales,
    az=zero_points,
    bz=zero_points,
    yz=zero_points,
    activation=st.sampled_from([None, RELU, RELU6]),
    seed=seeds,
)
def test_tflite(a, b, y, az, bz, yz, activation, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), quantization(a, az), seed)
    flow.add("other", Clamp(0.0), q=quantization(b, bz))
    flow.add("sum", Add(activation), "x", "other", q=quantization(y, yz))
    assert_exact(flow, count=5)


@EXAMPLES
@given(a=scales, y=scales, az=zero_points, yz=zero_points, seed=seeds)
def test_tflite_doubling(a, y, az, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 7), quantization(a, az), seed)
    flow.add("sum", Add(), "x", "x", q=quantization(y, yz))
    assert_exact(flow, count=20)
