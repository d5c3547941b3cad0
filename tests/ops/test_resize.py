"""Resize2d, and the Permute that turns pictures into rows: TFLite's integers and torch's meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from edgeq.formats.tflite.layout import plan
from edgeq.graph.ops import Concat, Conv2d, GlobalAvgPool, Permute, Reshape, Resize2d
from edgeq.integer.reference.resize import mirrors, resize
from tests.ops.flow import EXAMPLES, Flow, assert_exact, quantization, seeds, zero_points

sizes = st.integers(1, 13)
forms = st.sampled_from([("bilinear", False), ("bilinear", True), ("nearest", False), ("nearest-exact", False)])


@EXAMPLES
@given(before=st.tuples(sizes, sizes), size=st.tuples(sizes, sizes), form=forms, zero=zero_points, seed=seeds)
def test_resize_tflite(before, size, form, zero, seed) -> None:  # type: ignore[no-untyped-def]
    flow = Flow((1, 3, *before), quantization(0.1, zero), seed)
    flow.add("resized", Resize2d(size, *form))
    assert_exact(flow)


@EXAMPLES
@given(before=st.tuples(sizes, sizes), size=st.tuples(sizes, sizes), align_corners=st.booleans(), seed=seeds)
def test_bilinear_is_torchs_to_a_step(before, size, align_corners, seed) -> None:  # type: ignore[no-untyped-def]
    """Half a step from rounding, the rest from positions that are fractions of 1024."""
    x = np.random.default_rng(seed).integers(-128, 128, (2, 3, *before))
    made = resize(x, Resize2d(size, "bilinear", align_corners))
    real = F.interpolate(torch.from_numpy(x).double(), list(size), mode="bilinear", align_corners=align_corners).numpy()
    lost = 255 * 2 * max(*before, *size) / 1024
    assert np.abs(made - real).max() <= 0.5 + lost


@EXAMPLES
@given(before=sizes, after=sizes, form=forms, seed=seeds)
def test_mirrors_tells_which_axes_may_be_turned(before, after, form, seed) -> None:  # type: ignore[no-untyped-def]
    op = Resize2d((after, 1), *form)
    x = np.random.default_rng(seed).integers(-128, 128, (1, 8, before, 1))
    if mirrors(before, after, op):
        np.testing.assert_array_equal(resize(x[:, :, ::-1], op), resize(x, op)[:, :, ::-1])


@pytest.mark.parametrize(("size", "mirrored"), [((16, 16), True), ((9, 7), False)])
def test_a_mirrored_network_may_resize_where_it_stays_exact(size: tuple[int, int], mirrored: bool) -> None:
    flow = Flow((1, 8, 16, 16), quantization(0.1, 4))
    flow.weighted("conv", Conv2d((2, 2), (1, 1, 1, 1)), (128, 8, 3, 3), quantization(0.2, -7))
    flow.add("up", Resize2d(size), "conv")
    flow.add("mean", GlobalAvgPool(), "up", q=quantization(0.05, 2))
    assert_exact(flow)
    assert any(plan(flow.graph()).mirror) is mirrored


@EXAMPLES
@given(size=st.tuples(st.integers(2, 9), st.integers(2, 9)), stride=st.sampled_from([1, 2]), zero=zero_points)
def test_heads_of_a_detector_tflite(size: tuple[int, int], stride: int, zero: int) -> None:
    """Two maps to rows of four and joined, in a mirror or not, and no TRANSPOSE."""
    flow = Flow((1, 3, *size), quantization(0.1, zero))
    out = quantization(0.2, 3)
    rows = []
    for name in ("one", "other"):
        flow.weighted(name, Conv2d((stride, stride), (1, 1, 1, 1)), (8, 3, 3, 3), out)
        flow.add(f"{name}.last", Permute((0, 2, 3, 1)), name)
        h, w = ((s - 1) // stride + 1 for s in size)
        rows.append(flow.add(f"{name}.rows", Reshape((h * w * 2, 4)), f"{name}.last"))
    flow.add("joined", Concat(1), *rows)
    assert_exact(flow)
