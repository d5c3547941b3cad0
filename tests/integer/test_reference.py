"""The reference's contract: batches, shapes, types, refusals. Its values are proven per op in tests/ops."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ops import BatchNorm, Conv2d, GlobalAvgPool, MaxPool2d
from edgeq.integer.reference import run
from tests.ops.flow import Flow, quantization


def small() -> Flow:
    flow = Flow((1, 3, 9, 8), quantization(0.02, 4))
    flow.weighted("conv", Conv2d(stride=(2, 2), padding=(1, 1, 1, 1)), (8, 3, 3, 3), quantization(0.05, -3))
    flow.add("pool", MaxPool2d(), "conv")
    flow.add("mean", GlobalAvgPool(), "pool", q=quantization(0.02))
    return flow


def test_every_node_and_nothing_else_int8() -> None:
    flow = small()
    values = run(flow.graph(), flow.entry.quantize(flow.samples(3)))
    assert {name: value.shape for name, value in values.items()} == {
        "conv": (3, 8, 5, 4),
        "pool": (3, 8, 2, 2),
        "mean": (3, 8, 1, 1),
    }
    assert all(value.dtype == np.int8 for value in values.values())


def test_batch_is_the_same_as_one_by_one() -> None:
    flow = small()
    inputs = flow.entry.quantize(flow.samples(5))
    whole = run(flow.graph(), inputs)
    for i in range(5):
        for name, value in run(flow.graph(), inputs[i : i + 1]).items():
            np.testing.assert_array_equal(value[0], whole[name][i])


def test_wrong_shape_and_type() -> None:
    graph = small().graph()
    with pytest.raises(ConfigError, match="3, 9, 8"):
        run(graph, np.zeros((1, 3, 8, 9), np.int8))
    with pytest.raises(ConfigError, match="float32"):
        run(graph, np.zeros((1, 3, 9, 8), np.float32))


def test_op_without_a_reference() -> None:
    flow = Flow((1, 3, 4, 4), quantization(0.1))
    for name in ("gamma", "beta", "mean", "variance"):
        flow.constants[name] = np.ones(3, np.float32)
        flow.quantizations[name] = quantization(1.0)
    flow.add("norm", BatchNorm(), "x", "gamma", "beta", "mean", "variance")
    with pytest.raises(UnsupportedError, match="norm"):
        run(flow.graph(), flow.entry.quantize(flow.samples(1)))
