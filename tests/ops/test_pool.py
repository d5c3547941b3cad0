"""MaxPool2d, AvgPool2d and GlobalAvgPool."""

from __future__ import annotations

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import AvgPool2d, GlobalAvgPool, MaxPool2d
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, zero_points


@st.composite
def pools(draw: st.DrawFn, kind: type[MaxPool2d] | type[AvgPool2d]) -> Flow:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    # A window must touch at least one pixel, as every framework demands.
    padding = tuple(draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    size = [kernel[i] + draw(st.integers(0, 7)) for i in (0, 1)]
    flow = Flow((1, 3, size[0], size[1]), quantization(draw(scales), draw(zero_points)), draw(seeds))
    options = {"count_padding": draw(st.booleans())} if kind is AvgPool2d else {}
    flow.add("pool", kind(kernel, stride, padding, **options))
    return flow


@EXAMPLES
@given(pools(MaxPool2d))
def test_max_tflite(flow: Flow) -> None:
    assert_exact(flow)


@EXAMPLES
@given(pools(AvgPool2d))
def test_average_tflite(flow: Flow) -> None:
    op = flow.nodes[0].op
    assert isinstance(op, AvgPool2d)
    if not op.count_padding and any(op.padding):  # only where TFLite's SAME happens to be that padding
        try:
            write_tflite(flow.graph())
        except UnsupportedError:
            reject()
    assert_exact(flow)


@pytest.mark.parametrize("size", [4, 5, 7, 8])
def test_average_same_padding_tflite(size: int) -> None:
    flow = Flow((1, 3, size, size), quantization(0.1, 7))
    flow.add("pool", AvgPool2d((3, 3), (1, 1), (1, 1, 1, 1)))
    flow.add("again", AvgPool2d((3, 3), (2, 2), (1, 1, 1, 1)))
    assert_exact(flow)


@EXAMPLES
@given(h=st.integers(1, 9), w=st.integers(1, 9), x=scales, y=scales, xz=zero_points, yz=zero_points, seed=seeds)
def test_global_average_tflite(h, w, x, y, xz, yz, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 6, h, w), quantization(x, xz), seed)
    flow.add("mean", GlobalAvgPool(), q=quantization(y, yz))
    assert_exact(flow, count=5)
