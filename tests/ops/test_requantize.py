"""QUANTIZE between int8 and int16, both ways, against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.census import census
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import LeakyReLU, Requantize
from edgeq.integer.kernel_limits import check_kernels
from edgeq.integer.reference import run
from edgeq.quant.specify import widen_grid
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, scales, wide, zero_points

EVERY_8 = np.arange(-128, 128).reshape(1, 256)
EVERY_16 = np.arange(-(1 << 15), 1 << 15).reshape(1, 1 << 16)


@EXAMPLES
@given(x=scales, y=scales, zero=zero_points)
def test_every_int8_as_int16(x, y, zero) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(x, zero))
    flow.add("y", Requantize(16), q=wide(y))
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY_8)  # type: ignore[method-assign]
    assert_exact(flow)


@EXAMPLES
@given(x=scales, y=scales, zero=zero_points)
def test_every_int16_as_int8(x, y, zero) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 1 << 16), wide(x))
    flow.add("y", Requantize(8), q=quantization(y, zero))
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY_16)  # type: ignore[method-assign]
    assert_exact(flow)


@EXAMPLES
@given(x=scales, zero=zero_points)
def test_nothing_is_lost_there_and_back(x, zero) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 256), quantization(x, zero))
    flow.add("up", Requantize(16), q=widen_grid(flow.entry))
    flow.add("down", Requantize(8), "up", q=flow.entry)
    flow.samples = lambda count=1: flow.entry.dequantize(EVERY_8)  # type: ignore[method-assign]
    assert_exact(flow)
    assert np.array_equal(run(flow.graph(), EVERY_8)["down"], EVERY_8)
    found = census(write_tflite(flow.graph()))
    assert (found.requantize, found.quantize, found.float_ops, found.clean) == (2, 0, 0, True)


def test_devices_kernels_round_alike() -> None:
    flow = Flow((1, 256), quantization(0.037, 11))
    flow.add("up", Requantize(16), q=wide(0.041))
    flow.add("down", Requantize(8), "up", q=quantization(0.029, -3))
    made = LiteRTSession(write_tflite(flow.graph())).run_integers(flow.entry.dequantize(EVERY_8))[0]
    assert np.array_equal(made, run(flow.graph(), EVERY_8)["down"])


def test_grids_no_kernel_reaches_and_ops_of_two_types_are_refused() -> None:
    flow = Flow((1, 256), quantization(2.0**15))
    flow.add("y", Requantize(16), q=wide(256 / 1.02))
    with pytest.raises(UnsupportedError, match="Requantize onto a 16-bit grid"):
        check_kernels(flow.graph())
    flow = Flow((1, 256), quantization(0.1))
    flow.add("y", LeakyReLU(), q=wide(0.1))
    with pytest.raises(UnsupportedError, match="int16 and int8 activations in one LeakyReLU"):
        write_tflite(flow.graph())
    with pytest.raises(UnsupportedError, match="makes 8 or 16 bits"):
        Requantize(12).infer([(1, 4)])
