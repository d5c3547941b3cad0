"""Clamp, LeakyReLU and Softmax as nodes of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import RELU, RELU6, UNIT, Clamp, LeakyReLU, Softmax
from edgeq.integer.reference import run
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, zero_points


@EXAMPLES
@given(
    op=st.sampled_from([RELU, RELU6, UNIT, Clamp(-1.0, 1.0)]),
    x=scales,
    y=scales,
    xz=zero_points,
    yz=zero_points,
    seed=seeds,
)
def test_clamp_tflite(op, x, y, xz, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), quantization(x, xz), seed)
    flow.add("clamp", op, q=quantization(y, yz))
    assert_exact(flow)


@EXAMPLES
@given(low=st.floats(-3, 0), high=st.floats(0, 3), x=scales, xz=zero_points, seed=seeds)
def test_any_clamp_tflite(low, high, x, xz, seed) -> None:  # type: ignore[no-untyped-def]
    for place, op in enumerate([Clamp(low, high), Clamp(low), Clamp(maximum=high)]):
        flow = Flow((1, 30), quantization(x, xz), seed + place)
        flow.add("clamp", op)
        assert_exact(flow)


def test_any_clamp_cannot_rescale() -> None:
    flow = Flow((1, 30), quantization(0.1))
    flow.add("clamp", Clamp(-0.5, 2.0), q=quantization(0.2))
    with pytest.raises(UnsupportedError, match="clamp"):
        write_tflite(flow.graph())


@EXAMPLES
@given(slope=st.floats(0.001, 0.9), x=scales, y=scales, xz=zero_points, yz=zero_points, seed=seeds)
def test_leaky_relu_tflite(slope, x, y, xz, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), quantization(x, xz), seed)
    flow.add("leaky", LeakyReLU(slope), q=quantization(y, yz))
    assert_exact(flow)


@EXAMPLES
@given(
    classes=st.integers(1, 60),
    x=st.one_of(scales, st.floats(0.5, 4)),
    beta=st.sampled_from([1.0, 0.125, 0.1, 7.3]),
    xz=zero_points,
    seed=seeds,
)
def test_softmax_tflite(classes, x, beta, xz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, classes), quantization(x, xz), seed)
    flow.add("softmax", Softmax(beta=float(np.float32(beta))), q=quantization(1 / 256, -128))
    assert_exact(flow, count=20)


@EXAMPLES
@given(shape=st.sampled_from([(1, 5, 3, 4), (1, 6, 7)]), x=scales, xz=zero_points, seed=seeds)
def test_softmax_of_pictures_and_rows_tflite(shape, x, xz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow(shape, quantization(x, xz), seed)
    flow.add("softmax", Softmax(1 if len(shape) == 4 else 2), q=quantization(1 / 256, -128))
    assert_exact(flow, count=5)


@pytest.mark.parametrize("classes", [500, 511])
def test_softmax_of_many_equal_classes(classes: int) -> None:
    flow = Flow((1, classes), quantization(1e-6))
    flow.add("softmax", Softmax(), q=quantization(1 / 256, -128))
    assert_exact(flow)


def test_softmax_the_runtime_would_abort_on() -> None:
    flow = Flow((1, 1000), quantization(1e-6))
    flow.add("softmax", Softmax(), q=quantization(1 / 256, -128))
    with pytest.raises(UnsupportedError, match="softmax"):
        run(flow.graph(), flow.entry.quantize(flow.samples()))
