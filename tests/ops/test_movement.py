"""Ops that move or select: Concat, Pad, Slice, Reshape."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.graph.ops import Concat, MaxPool2d, Pad, Reshape, Slice
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, seeds, zero_points


@EXAMPLES
@given(axis=st.integers(1, 3), zero=zero_points, seed=seeds)
def test_concat_tflite(axis: int, zero: int, seed: int) -> None:
    flow = Flow((1, 3, 5, 4), quantization(0.1, zero), seed)
    flow.add("pool", MaxPool2d((3, 3), (1, 1), (1, 1, 1, 1)))
    flow.add("joined", Concat(axis), "x", "pool", "x")
    assert_exact(flow)


@EXAMPLES
@given(
    before=st.tuples(*[st.integers(0, 3)] * 3), after=st.tuples(*[st.integers(0, 3)] * 3), zero=zero_points, seed=seeds
)
def test_pad_tflite(before, after, zero, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, 5, 4), quantization(0.1, zero), seed)
    flow.add("pad", Pad((0, *before), (0, *after)))
    assert_exact(flow)


@st.composite
def slices(draw: st.DrawFn, shape: tuple[int, ...]) -> Slice:
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    step = [draw(st.integers(1, 3)) for _ in shape]
    return Slice((0, *start), (1, *stop), (1, *step))


@EXAMPLES
@given(op=slices((4, 7, 6)), zero=zero_points, seed=seeds)
def test_slice_tflite(op: Slice, zero: int, seed: int) -> None:
    flow = Flow((1, 4, 7, 6), quantization(0.1, zero), seed)
    flow.add("slice", op)
    assert_exact(flow)


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (8, 7)])
def test_shortcut_of_slice_and_channel_pad_tflite(size: tuple[int, int]) -> None:
    """The parameterless shortcut of the CIFAR residual networks."""
    flow = Flow((1, 4, *size), quantization(0.1, -128))
    flow.add("slice", Slice((0, 0, 0, 0), (1, 4, *size), (1, 1, 2, 2)))
    flow.add("pad", Pad((0, 2, 0, 0), (0, 2, 0, 0)), "slice")
    assert_exact(flow)


@pytest.mark.parametrize(
    ("shape", "new"), [((1, 12, 1, 1), (12,)), ((1, 12), (12, 1, 1)), ((1, 1, 3, 4), (12,)), ((1, 12), (3, 4))]
)
def test_reshape_tflite(shape: tuple[int, ...], new: tuple[int, ...]) -> None:
    assert math.prod(shape) == math.prod(new)
    flow = Flow(shape, quantization(0.1, 5))
    flow.add("reshape", Reshape(new))
    assert_exact(flow)
