"""Conv2d: dense, grouped, depthwise, strided, dilated, padded on any side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.graph.ops import RELU, RELU6, Clamp, Conv2d
from edgeq.integer.reference import run
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, seeds, used_range, zero_points

sides = st.tuples(*[st.integers(0, 3)] * 4)


@st.composite
def convolutions(draw: st.DrawFn, kind: str) -> Flow:
    op = Conv2d(
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=draw(sides),
        dilation=draw(st.sampled_from([(1, 1), (2, 2), (2, 1)])),
        groups={"dense": 1, "depthwise": 3, "multiplied": 3, "grouped": 2}[kind],
        activation=draw(st.sampled_from([None, RELU, RELU6, Clamp(-1.0, 1.0)])),
    )
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    channels, filters = {"dense": (3, 5), "depthwise": (3, 3), "multiplied": (3, 6), "grouped": (4, 6)}[kind]
    size = [op.dilation[i] * (kernel[i] - 1) + 1 + draw(st.integers(0, 8)) for i in (0, 1)]
    flow = Flow((1, channels, size[0], size[1]), quantization(draw(scales), draw(zero_points)), draw(seeds))
    weight = (filters, channels // op.groups, *kernel)
    flow.weighted(
        "conv",
        op,
        weight,
        quantization(draw(scales), draw(zero_points)),
        bias=draw(st.booleans()),
        tie=draw(st.booleans()),
    )
    return flow


@pytest.mark.parametrize("kind", ["dense", "depthwise", "multiplied", "grouped"])
@EXAMPLES
@given(data=st.data())
def test_tflite(kind: str, data: st.DataObject) -> None:
    assert_exact(data.draw(convolutions(kind)))


def test_outputs_use_their_range() -> None:
    flow = Flow((1, 8, 9, 9), quantization(0.02, 5))
    flow.weighted("conv", Conv2d(padding=(1, 1, 1, 1)), (16, 8, 3, 3), quantization(0.05, -3))
    assert used_range(run(flow.graph(), flow.entry.quantize(flow.samples())), "conv") > 150
    assert_exact(flow)


def test_sums_beyond_float32() -> None:
    """512 x 9 products reach past 2^24, where the reference has to leave float32."""
    flow = Flow((1, 512, 4, 4), quantization(0.02, -128))
    flow.weighted("conv", Conv2d(padding=(1, 1, 1, 1)), (4, 512, 3, 3), quantization(0.05, -3))
    flow.constants["conv.weight"][0] = 127
    assert_exact(flow)
