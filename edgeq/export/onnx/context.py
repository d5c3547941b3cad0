"""What an emitter sees while a network is being written: its values as ONNX tensors, in float or as Q/DQ pairs.

An emitter says what an op is in ONNX; the context decides how values travel. `FloatContext` passes float tensors
along. `QuantizedContext` keeps every activation as an integer tensor named after its value: ops that compute read it
through a DequantizeLinear and leave through a QuantizeLinear, which onnxruntime fuses into one integer kernel, and ops
that only move or select integers work on the integer tensor itself, so there is nothing to fuse and nothing to fail.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.export.onnx.build import Builder
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Clamp, Shape
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.runtime.onnxfile import QUANTIZED_SUFFIX

__all__ = ["Context", "FloatContext", "QuantizedContext", "array_range"]


class Context(ABC):
    """Values of the network being written, by their name in the graph."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    @abstractmethod
    def shape(self, value: str) -> Shape:
        """Logical shape at batch 1."""

    @abstractmethod
    def real(self, value: str) -> str:
        """The float tensor of an activation."""

    @abstractmethod
    def parameter(self, value: str) -> str:
        """The float tensor of a weight or bias."""

    @abstractmethod
    def filtered(self, node: Node) -> list[str]:
        """Float tensors of a convolution's input and filters."""

    @abstractmethod
    def bias(self, node: Node) -> str:
        """The float tensor of a convolution's or linear's bias."""

    @abstractmethod
    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        """Make `node`'s value with one float ONNX op on float tensors, limited to `clamp`."""

    @abstractmethod
    def move(self, node: Node, kind: str, values: list[str], extra: list[str], **attributes: Any) -> None:
        """Make `node`'s value with an op that moves or selects elements of `values`; `extra` are tensors it needs."""

    @abstractmethod
    def zero(self, value: str) -> str:
        """A scalar tensor meaning 0.0 in the type and quantization of `value`."""

    @abstractmethod
    def clamp(self, node: Node, clamp: Clamp) -> None:
        """Make `node`'s value by limiting its input."""

    def indices(self, *numbers: int) -> str:
        """An int64 vector."""
        return self.builder.constant(np.array(numbers, np.int64))


class FloatContext(Context):
    """Float32 throughout: tensors and values have the same names."""

    def __init__(self, builder: Builder, graph: Graph) -> None:
        super().__init__(builder)
        self._graph = graph
        for name, array in graph.constants.items():
            builder.constant(array.astype(np.float32), name)

    def shape(self, value: str) -> Shape:
        return self._graph.shapes[value]

    def real(self, value: str) -> str:
        return value

    def parameter(self, value: str) -> str:
        return value

    def filtered(self, node: Node) -> list[str]:
        return list(node.inputs[:2])

    def bias(self, node: Node) -> str:
        return node.inputs[2]

    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        output = None if clamp else node.name
        made = self.builder.node(kind, inputs, output, name=node.name, **attributes)
        if clamp:
            self._limit(made, clamp, node.name, f"{node.name}/clamp")

    def move(self, node: Node, kind: str, values: list[str], extra: list[str], **attributes: Any) -> None:
        self.builder.node(kind, [*values, *extra], node.name, name=node.name, **attributes)

    def zero(self, value: str) -> str:
        return self.builder.constant(np.array(0, np.float32))

    def clamp(self, node: Node, clamp: Clamp) -> None:
        self._limit(node.inputs[0], clamp, node.name, node.name)

    def _limit(self, tensor: str, clamp: Clamp, output: str, name: str) -> None:
        if clamp == Clamp(0.0):
            self.builder.node("Relu", [tensor], output, name=name)
            return
        low, high = (
            self.builder.constant(np.array(limit, np.float32)) if math.isfinite(limit) else ""
            for limit in (clamp.minimum, clamp.maximum)
        )
        self.builder.node("Clip", [tensor, low, high] if high else [tensor, low], output, name=name)


class QuantizedContext(Context):
    """Integer activations, int8 weights and int32 biases of an `IntegerGraph`, with `activations` int8 or uint8.

    uint8 holds the same integers shifted by 128, zero points with them.
    """

    def __init__(self, builder: Builder, graph: IntegerGraph, activations: str, edges: frozenset[str]) -> None:
        """`edges`: inputs and outputs whose own name belongs to a tensor of another type."""
        super().__init__(builder)
        self._graph = graph
        self._type = activations
        self._edges = edges
        self._reals: dict[str, str] = {}
        self._parameters: dict[str, str] = {}
        self._padded: dict[str, str] = {}

    def shape(self, value: str) -> Shape:
        return self._graph.shapes[value]

    def real(self, value: str) -> str:
        if value not in self._reals:
            self._reals[value] = self.dequantize(self.integers(value), value, self._type)
        return self._reals[value]

    def integers(self, value: str) -> str:
        """The integer tensor of an activation, or of a constant used as one."""
        if value in self._graph.constants:
            array = self._graph.constants[value].astype(np.int16) + self._shift(self._type)
            return self.builder.constant(array.astype(self._type))
        return value + QUANTIZED_SUFFIX if value in self._edges else value

    def quantize(self, tensor: str, value: str, kind: str, output: str | None) -> str:
        """QuantizeLinear of a float tensor onto the grid of `value`."""
        return self.builder.node("QuantizeLinear", [tensor, *self._grid(value, kind)], output)

    def dequantize(self, tensor: str, value: str, kind: str, output: str | None = None) -> str:
        """DequantizeLinear of an integer tensor on the grid of `value`."""
        return self.builder.node("DequantizeLinear", [tensor, *self._grid(value, kind)], output)

    def parameter(self, value: str) -> str:
        if value not in self._parameters:
            self._parameters[value] = self._weight(value, self._graph.constants[value])
        return self._parameters[value]

    def filtered(self, node: Node) -> list[str]:
        """On x86 three input channels become four, the new one always 0.0 and read with weight 0: MLAS has direct
        convolution kernels for multiples of four only, and copies every window of anything else first.
        """
        value, weight = node.inputs[:2]
        filters = self._graph.constants[weight]
        if self._type != "uint8" or filters.shape[1] % 4 != 3 or filters.shape[1] != self.shape(value)[1]:
            return [self.real(value), self.parameter(weight)]
        if value not in self._padded:
            inputs = [self.integers(value), self.indices(0, 1), self.zero(value), self.indices(1)]
            self._padded[value] = self.dequantize(self.builder.node("Pad", inputs), value, self._type)
        return [self._padded[value], self._weight(weight, np.pad(filters, ((0, 0), (0, 1), (0, 0), (0, 0))))]

    def _weight(self, value: str, integers: npt.NDArray[Any]) -> str:
        q = self._graph.quantizations[value]
        inputs = [self.builder.constant(integers), self.builder.constant(q.scale)]
        if integers.ndim == 2:
            # An absent zero point is 0, and so is this one; but without it onnxruntime does not recognise QGemm.
            inputs.append(self.builder.constant(q.zero_point.astype(np.int8)))
        return self.builder.node("DequantizeLinear", inputs, axis=q.axis)

    def bias(self, node: Node) -> str:
        """The bias scale is the product it is defined as, input scale x weight scale, which onnxruntime folds into a
        constant when it loads the file: the same float32 numbers, without storing a second scale per channel.
        """
        value, weight, bias = node.inputs
        scales = [self.builder.constant(self._graph.quantizations[name].scale) for name in (value, weight)]
        scale = self.builder.node("Mul", scales)
        integers = self.builder.constant(self._graph.constants[bias].astype(np.int32))
        return self.builder.node("DequantizeLinear", [integers, scale], axis=self._graph.quantizations[bias].axis)

    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        made = self.builder.node(kind, inputs, name=node.name, **attributes)
        limits = self._limits(node.name, clamp)
        target = self.integers(node.name)
        integers = self.quantize(made, node.name, self._type, None if limits else target)
        if limits:
            self.builder.node("Clip", [integers, *limits], target)

    def move(self, node: Node, kind: str, values: list[str], extra: list[str], **attributes: Any) -> None:
        self._same_grid(node, values)
        tensors = [self.integers(value) for value in values]
        self.builder.node(kind, [*tensors, *extra], self.integers(node.name), name=node.name, **attributes)

    def zero(self, value: str) -> str:
        return self._grid(value, self._type)[1]

    def clamp(self, node: Node, clamp: Clamp) -> None:
        """Integer Clip where input and output share a grid. Else a leaky ReLU of slope 1, which is the identity: its
        integer kernel is a table of 256 entries, so that changing grids costs no float op, and the grid saturates.
        """
        (value,) = node.inputs
        if not _equal(self._graph.quantizations[value], self._graph.quantizations[node.name]):
            self.compute(node, "LeakyRelu", [self.real(value)], clamp=clamp, alpha=1.0)
            return
        limits = self._limits(node.name, clamp) or ["", ""]
        self.builder.node("Clip", [self.integers(value), *limits], self.integers(node.name), name=node.name)

    def _limits(self, value: str, clamp: Clamp | None) -> list[str] | None:
        """Integer limits of `clamp` on the grid of `value`; None where saturation does it: ReLU with its zero point
        at the smallest integer and ReLU6 whose range ends at 6 are free, and Clip or Relu would break the fusion.
        """
        if clamp is None:
            return None
        q = self._graph.quantizations[value]
        low, high = (
            int(q.quantize(np.float32(limit))) if math.isfinite(limit) else q.limits[limit > 0]  # type: ignore[arg-type]
            for limit in (clamp.minimum, clamp.maximum)
        )
        if (low, high) == q.limits:
            return None
        return [self.builder.constant(np.array(k + self._shift(self._type), self._type)) for k in (low, high)]

    def _grid(self, value: str, kind: str) -> list[str]:
        q = self._graph.quantizations[value]
        zero = (q.zero_point + self._shift(kind)).astype(kind)
        return [self.builder.constant(q.scale), self.builder.constant(zero)]

    @staticmethod
    def _shift(kind: str) -> int:
        return 128 if kind == "uint8" else 0

    def _same_grid(self, node: Node, values: list[str]) -> None:
        grids = self._graph.quantizations
        other = [value for value in values if not _equal(grids[value], grids[node.name])]
        if other:
            raise UnsupportedError(
                f"{type(node.op).__name__} moves integers, but {other[0]} has another scale than its output",
                where=node.name,
                hint="give both one quantization when calibrating",
            )


def _equal(one: Quantization, other: Quantization) -> bool:
    return bool(np.array_equal(one.scale, other.scale) and np.array_equal(one.zero_point, other.zero_point))


def array_range(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Smallest and largest element, ``(0, 0)`` when there is none."""
    return (int(array.min()), int(array.max())) if array.size else (0, 0)
