"""Verification finds what it should: agreement, and a single changed weight."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeq.errors import ArtifactError
from edgeq.formats.exactness import compare
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import Conv2d, GlobalAvgPool
from tests.ops.flow import Flow, quantization


def small(name: str = "conv") -> Flow:
    flow = Flow((1, 3, 9, 8), quantization(0.02, 4))
    flow.weighted(name, Conv2d(), (8, 3, 3, 3), quantization(0.05, -3))
    flow.add("mean", GlobalAvgPool(), name, q=quantization(0.02))
    return flow


def test_counts_every_value() -> None:
    flow = small()
    found = verify_tflite(flow.graph(), write_tflite(flow.graph()), flow.samples(11))
    assert found.exact
    assert found.values == 11 * (8 * 7 * 6 + 8)
    assert found.per_op["mean"] == (88, 88, 0)
    assert "BUILTIN_REF" in found.reference
    assert found.first_difference is None


def test_one_changed_weight_is_found_where_it_is() -> None:
    flow = small()
    data = write_tflite(flow.graph())
    weight = flow.constants["conv.weight"].copy()
    weight[2, 1, 0, 0] += -50 if weight[2, 1, 0, 0] > 0 else 50
    other = dataclasses.replace(flow.graph(), constants=flow.constants | {"conv.weight": weight})
    found = verify_tflite(other, data, flow.samples(4))
    assert not found.exact
    assert found.max_step >= 1
    assert found.first_difference is not None
    assert found.first_difference.startswith("conv at [0, 2,")


def test_a_file_of_another_network() -> None:
    flow = small()
    with pytest.raises(ArtifactError, match="conv"):
        verify_tflite(flow.graph(), write_tflite(small("other").graph()), flow.samples(1))


def test_compare_names_the_first_place() -> None:
    a = np.zeros((2, 3), np.int8)
    b = a.copy()
    b[1, 2] = -128
    found = compare(a, b)
    assert (found.values, found.equal, found.max_step) == (6, 5, 128)
    assert found.first == "[1, 2]: reference 0, runtime -128"
