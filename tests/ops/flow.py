"""Random one-op integer graphs, and how an op's tests compare runtimes with the integer reference.

Every file in this folder draws shapes, scales and integers from here, so that both formats meet the same cases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from edgeq.formats.exactness import Exactness
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Node
from edgeq.graph.ops import Op, Shape
from edgeq.integer.graph import IntegerGraph, Quantization
from tests.host import LARGEST

EXAMPLES = settings(
    max_examples=int(os.environ.get("EDGEQ_EXAMPLES", "15")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)
"""Derandomised: the same cases every time, on every machine. EDGEQ_EXAMPLES asks for more of them."""

FEW = settings(EXAMPLES, max_examples=max(1, EXAMPLES.max_examples // 3))
"""For tests whose examples are dear: each exports a network, or loads several sessions."""

seeds = st.integers(0, 2**31 - 1)
zero_points = st.integers(-128, 127)
POWERS = [2.0**-k for k in range(1, 9)]
scales = st.one_of(st.floats(1e-3, 0.5), st.sampled_from(POWERS))
"""Powers of two make exact ties, where kinds of rounding part ways."""


def wide(scale: float) -> Quantization:
    """Per-tensor int16, 256 times as fine as an int8 grid of this scale."""
    return Quantization(np.asarray(scale / 256, np.float32), np.asarray(0, np.int32), "int16")


def quantization(scale: float, zero_point: int = 0) -> Quantization:
    """Per-tensor int8."""
    return Quantization(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))


@dataclass
class Flow:
    """A graph being put together, node by node, from one input ``x``."""

    shape: Shape
    entry: Quantization
    seed: int = 0
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    quantizations: dict[str, Quantization] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.quantizations["x"] = self.entry

    def add(self, name: str, op: Op, *inputs: str, q: Quantization | None = None) -> str:
        """A node without constants; `q` defaults to the first input's quantization."""
        self.nodes.append(Node(name, op, inputs or ("x",)))
        self.quantizations[name] = q or self.quantizations[self.nodes[-1].inputs[0]]
        return name

    def weighted(
        self,
        name: str,
        op: Op,
        weight: Shape,
        q: Quantization,
        source: str = "x",
        *,
        bias: bool = True,
        tie: bool = False,
    ) -> str:
        """A convolution or linear with random int8 weights of this shape, scaled so that outputs use their range."""
        x, fan_in = self.quantizations[source], int(np.prod(weight[1:]))
        finer = 256 if x.dtype == "int16" else 1
        typical = float(x.scale) * finer * 74 * 74 * fan_in**0.5  # deviation of a sum of products, in weight scales
        wanted = 60 * finer * float(q.scale) / typical * self.rng.uniform(0.3, 3, weight[0])
        if tie:
            wanted = (
                float(q.scale) / float(x.scale) * np.exp2(np.round(np.log2(wanted * float(x.scale) / float(q.scale))))
            )
        scale = wanted.astype(np.float32)
        zeros = np.zeros(weight[0], np.int32)
        self.constants[f"{name}.weight"] = self.rng.integers(-LARGEST, LARGEST + 1, weight).astype(np.int8)
        self.quantizations[f"{name}.weight"] = Quantization(scale, zeros, "int8", 0)
        inputs = [source, f"{name}.weight"]
        if bias:
            largest, kind = 40 * finer * 74 * int(fan_in**0.5), "int32" if finer == 1 else "int64"
            self.constants[f"{name}.bias"] = self.rng.integers(-largest, largest + 1, weight[0]).astype(kind)
            self.quantizations[f"{name}.bias"] = Quantization(x.scale * scale, zeros, kind, 0)
            inputs.append(f"{name}.bias")
        return self.add(name, op, *inputs, q=q)

    def graph(self, *outputs: str) -> IntegerGraph:
        return IntegerGraph(
            name="flow",
            inputs=("x",),
            outputs=outputs or (self.nodes[-1].name,),
            nodes=tuple(self.nodes),
            constants=self.constants,
            quantizations=self.quantizations,
            input_shapes={"x": self.shape},
        )

    def samples(self, count: int = 3) -> npt.NDArray[np.float32]:
        """Real inputs that land on random integers, the whole range used."""
        low, high = self.entry.limits
        integers = self.rng.integers(low, high + 1, (count, *self.shape[1:]))
        return self.entry.dequantize(integers)


def tflite_exactness(flow: Flow, *outputs: str, io: str | None = None, count: int = 3) -> Exactness:
    """Write the flow's graph and compare every op with LiteRT's reference kernels."""
    graph = flow.graph(*outputs)
    return verify_tflite(graph, write_tflite(graph, io=io), flow.samples(count))


def assert_exact(flow: Flow, *outputs: str, io: str | None = None, count: int = 3) -> None:
    """All values of all ops equal; says where the first one is not."""
    found = tflite_exactness(flow, *outputs, io=io, count=count)
    assert found.exact, found.first_difference
    assert set(found.per_op) == {node.name for node in flow.nodes}


def used_range(values: Mapping[str, npt.NDArray[Any]], name: str) -> int:
    """Distinct integers an op produced: a test that only ever sees one is no test."""
    return len(np.unique(values[name]))
