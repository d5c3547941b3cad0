"""Every op kind with random parameters, shapes and values, in every file (`sweep.py`); and the faults this found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.errors import UnsupportedError
from edgeq.graph.ops import OPS, LeakyReLU
from tests.ops.flow import Flow, assert_exact, quantization
from tests.ops.sweep import GENERATORS, Case, Network, Step
from tests.ops.sweep_check import check, judge


def test_every_op_kind_is_drawn() -> None:
    """A new op kind needs a generator here."""
    assert [kind for kind in OPS if not GENERATORS.get(kind)] == []


@pytest.mark.parametrize("kind", sorted(OPS))
def test_op_is_torchs_in_every_file(kind: str) -> None:
    """What is refused is not wrong, but another case is drawn for it, and for an op that dissolved."""
    for seed in range(20):
        with contextlib.suppress(UnsupportedError):
            if kind in judge(kind, seed):
                return
    pytest.fail(f"none of 20 cases holds a {kind}")


def drawn(shape: tuple[int, ...], body: Callable[[Tensor], Tensor], limits: tuple[float, float] = (-1.0, 1.0)) -> Case:
    """A network of one function, on values within `limits`."""
    inputs = np.random.default_rng(0).uniform(*limits, (4, *shape)).astype(np.float32)
    return Case(Network([Step(lambda m, x: body(x), "body")]).eval(), shape, limits, inputs)


FOUND: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    # onnxruntime makes a pad without axes the padding of the pool behind it: minus infinity, or not counted.
    "zeros before a max pool": ((3, 8, 8), lambda x: F.max_pool2d(F.pad(-F.softplus(x), (0, 1, 0, 1)), 2, 1)),
    "zeros on all sides of a max pool": ((3, 7, 5), lambda x: F.max_pool2d(F.pad(x - 2, (1, 1, 1, 1)), 3, 2)),
    "zeros before a max pool with padding": ((3, 7, 5), lambda x: F.max_pool2d(F.pad(x - 2, (1, 0, 0, 0)), 3, 2, 1)),
    "zeros before an average pool": ((3, 7, 7), lambda x: F.avg_pool2d(F.pad(x, (1, 0, 0, 1)), 3, 2)),
    # onnxruntime's uint8 kernel makes 0 of 256.
    "softmax of one channel": ((1, 4, 4), lambda x: torch.softmax(x, 1)),
    # onnxruntime divides by the scale in float32.
    "nearest, 14 to 16": ((2, 14, 7), lambda x: F.interpolate(x, (16, 8))),
    "nearest, 28 to 32 and 20": ((1, 28, 28), lambda x: F.interpolate(x, (32, 20))),
    # The two kernels' positions part by more than a step.
    "bilinear to 26 times the size": ((1, 2, 3), lambda x: F.interpolate(x, (53, 79), mode="bilinear")),
}
"""What was wrong once: name to the shape and the network."""


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_is_right(name: str) -> None:
    check(drawn(*FOUND[name]))


def test_ties_of_a_leaky_relu_with_a_negative_slope_round_as_the_kernel_does() -> None:
    """It multiplies by the slope's size and then negates: -19 times -0.5 is 9 steps, where 10 was expected."""
    flow = Flow((1, 3, 9, 9), quantization(0.1, 5))
    flow.add("y", LeakyReLU(-0.5))
    assert_exact(flow)


def test_a_clamp_beyond_the_inputs_range_is_refused() -> None:
    """The input's scale cannot hold what is left: -0.3 became 51 steps."""
    with pytest.raises(UnsupportedError, match="leaves one value"):
        check(drawn((2, 3, 3), lambda x: x.clamp(max=-0.3), (0.0, 1.0)))
