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
from onnx import TensorProto

from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.builder import Builder
from edgeq.formats.onnx.file import QUANTIZED_SUFFIX
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Clamp, Shape
from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = ["Context", "FloatContext", "QuantizedContext", "array_range"]


DIRECT_FILTERS = 16
"""Fewest filters for which MLAS has direct u8 x s8 convolution kernels on x86."""


class Context(ABC):
    """Values of the network being written, by their name in the graph."""

    def __init__(self, builder: Builder, entry: str) -> None:
        """`entry` is the network's input."""
        self.builder, self.entry = builder, entry
        self._batch: str | None = None

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
    def convolve(self, node: Node, *, clamp: Clamp | None, **attributes: Any) -> None:
        """Make the value of a convolution `node`."""

    @abstractmethod
    def bias(self, node: Node) -> str:
        """The float tensor of a convolution's or linear's bias."""

    @abstractmethod
    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        """Make `node`'s value with one float ONNX op on float tensors, limited to `clamp`."""

    @abstractmethod
    def move(
        self,
        node: Node,
        kind: str,
        values: list[str],
        extra: list[str],
        *,
        source: str | None = None,
        **attributes: Any,
    ) -> None:
        """Make `node`'s value with an op that moves or selects elements of `values`; `extra` are tensors it needs.

        `source` is a tensor made of the `movable` ones of `values`, to be read in their place.
        """

    @abstractmethod
    def movable(self, value: str) -> str:
        """The tensor of an activation that moves read: float, or its integers."""

    @abstractmethod
    def readers(self, value: str) -> list[Node]:
        """The nodes that read a value."""

    @abstractmethod
    def zero(self, value: str) -> str:
        """A scalar tensor meaning 0.0 in the type and quantization of `value`."""

    @abstractmethod
    def clamp(self, node: Node, clamp: Clamp) -> None:
        """Make `node`'s value by limiting its input."""

    @abstractmethod
    def fill(self, node: Node, real: float) -> None:
        """Make `node`'s value `real` everywhere, in the shape of its input."""

    def batch(self) -> str:
        """How many images are computed at once, an int64 vector of one."""
        if self._batch is None:
            self._batch = self.builder.node("Shape", [self.movable(self.entry)], start=0, end=1)
        return self._batch

    def indices(self, *numbers: int) -> str:
        """An int64 vector."""
        return self.builder.constant(np.array(numbers, np.int64))


class FloatContext(Context):
    """Float32 throughout: tensors and values have the same names."""

    def __init__(self, builder: Builder, graph: Graph) -> None:
        super().__init__(builder, graph.inputs[0])
        self._graph = graph
        for name, array in graph.constants.items():
            builder.constant(array.astype(np.float32), name)

    def shape(self, value: str) -> Shape:
        return self._graph.shapes[value]

    def real(self, value: str) -> str:
        return value

    def parameter(self, value: str) -> str:
        return value

    def convolve(self, node: Node, *, clamp: Clamp | None, **attributes: Any) -> None:
        self.compute(node, "Conv", list(node.inputs), clamp=clamp, **attributes)

    def bias(self, node: Node) -> str:
        return node.inputs[2]

    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        output = None if clamp else node.name
        result = self.builder.node(kind, inputs, output, name=node.name, **attributes)
        if clamp:
            self._limit(result, clamp, node.name, f"{node.name}/clamp")

    def move(
        self,
        node: Node,
        kind: str,
        values: list[str],
        extra: list[str],
        *,
        source: str | None = None,
        **attributes: Any,
    ) -> None:
        tensors = values if source is None else [source]
        self.builder.node(kind, [*tensors, *extra], node.name, name=node.name, **attributes)

    def movable(self, value: str) -> str:
        return value

    def readers(self, value: str) -> list[Node]:
        return [node for node in self._graph.nodes if value in node.inputs]

    def zero(self, value: str) -> str:
        return self.builder.constant(np.array(0, np.float32))

    def clamp(self, node: Node, clamp: Clamp) -> None:
        self._limit(node.inputs[0], clamp, node.name, node.name)

    def fill(self, node: Node, real: float) -> None:
        self._limit(node.inputs[0], Clamp(real, real), node.name, node.name)

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
        super().__init__(builder, graph.inputs[0])
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

    def grid(self, value: str) -> Quantization:
        return self._graph.quantizations[value]

    @property
    def shift(self) -> int:
        """What the file's integers are larger by than the graph's."""
        return self._shift(self._type)

    def scalar(self, integer: int) -> str:
        """A constant activation."""
        return self.builder.constant(np.array(integer + self.shift, self._type))

    def read(self, tensor: str, grid: Quantization) -> str:
        """DequantizeLinear of an integer tensor on any grid: another than it was put on is another scale for free."""
        return self.builder.node("DequantizeLinear", [tensor, *self._numbers(grid, self._type)])

    def put(self, tensor: str, grid: Quantization, output: str | None = None) -> str:
        """QuantizeLinear of a float tensor on any grid."""
        return self.builder.node("QuantizeLinear", [tensor, *self._numbers(grid, self._type)], output)

    def place(self, value: str) -> str | None:
        """Where integers of `value` made on another grid, or on none, go; `hand_over` then says what they are.

        None: anywhere, for a reader takes the meaning of an integer output from the QuantizeLinear that makes it.
        """
        return None if self._bare(value) else self.integers(value)

    def hand_over(self, result: str, value: str) -> None:
        if self._bare(value):
            self.put(self.read(result, self.grid(value)), self.grid(value), self.integers(value))

    def _bare(self, value: str) -> bool:
        return value in self._graph.outputs and value not in self._edges

    def look_up(self, node: Node, answers: npt.NDArray[np.int8]) -> None:
        """Make `node`'s value by a table, ``(256,)`` for inputs from -128 on. Integers throughout.

        Gather calls for a copy of each element, and takes five times as long as GatherElements, which wants all in one
        row (`benchmarks/onnx_forms.py`).
        """
        (value,) = node.inputs
        make, shape = self.builder.node, self.shape(value)[1:]
        table = (answers.astype(np.int16) + self.shift).astype(self._type)
        if not self.shift:  # negative places count from the end
            table = np.roll(table, -128)
        pictures = len(shape) == 3 and shape[0] > 1 and max(shape[1:]) > 1
        whole, place = self.integers(value), self.place(node.name)
        if pictures:  # as they lie in memory between convolutions
            whole, shape = make("Transpose", [whole], perm=[0, 2, 3, 1]), (*shape[1:], shape[0])
        places = make("Cast", [make("Reshape", [whole, self.indices(-1)])], to=TensorProto.INT32)
        result = make("GatherElements", [self.builder.constant(table), places], name=node.name)
        result = make("Reshape", [result, self.indices(-1, *shape)], None if pictures else place)
        if pictures:
            result = make("Transpose", [result], place, perm=[0, 3, 1, 2])
        self.hand_over(result, node.name)

    def quantize(self, tensor: str, value: str, kind: str, output: str | None) -> str:
        """QuantizeLinear of a float tensor onto the grid of `value`."""
        return self.builder.node("QuantizeLinear", [tensor, *self._grid(value, kind)], output)

    def dequantize(self, tensor: str, value: str, kind: str, output: str | None = None) -> str:
        """DequantizeLinear of an integer tensor on the grid of `value`."""
        return self.builder.node("DequantizeLinear", [tensor, *self._grid(value, kind)], output)

    def parameter(self, value: str) -> str:
        if value not in self._parameters:
            q = self._graph.quantizations[value]
            self._parameters[value] = self._weight(self._graph.constants[value], q.scale, q.axis)
        return self._parameters[value]

    def bias(self, node: Node) -> str:
        value, weight, bias = node.inputs
        q = self._graph.quantizations
        return self._bias(self._graph.constants[bias], q[value].scale, q[weight].scale, q[bias].axis)

    def convolve(self, node: Node, *, clamp: Clamp | None, **attributes: Any) -> None:
        value, weight, *bias = node.inputs
        filters = self._graph.constants[weight]
        dense = filters.shape[1] == self.shape(value)[1]
        if self._type == "uint8" and dense and filters.shape[1] % 4 == 3:
            self._convolve_directly(node, clamp, attributes)
            return
        inputs = [self.real(value), self.parameter(weight), *([self.bias(node)] if bias else [])]
        self.compute(node, "Conv", inputs, clamp=clamp, **attributes)

    def _convolve_directly(self, node: Node, clamp: Clamp | None, attributes: dict[str, Any]) -> None:
        """A first convolution in the form MLAS has direct kernels for on x86: input channels in fours, 16 filters or
        more; it copies anything else window by window first. The added channel is 0.0 and read with weight 0, added
        filters are cut off again, so the integers are the same.
        """
        value, weight, *bias = node.inputs
        filters, q = self._graph.constants[weight], self._graph.quantizations
        more = max(DIRECT_FILTERS - len(filters), 0)
        scale = np.pad(q[weight].scale, (0, more), mode="edge") if q[weight].axis is not None else q[weight].scale
        if value not in self._padded:
            # All axes are listed: given one alone, onnxruntime fails to move a transpose across it.
            extra = [self.indices(0, 0, 0, 0, 0, 1, 0, 0), self.zero(value)]
            self._padded[value] = self.builder.node("Pad", [self.integers(value), *extra])
        inputs = [
            self.dequantize(self._padded[value], value, self._type),
            self._weight(np.pad(filters, ((0, more), (0, 1), (0, 0), (0, 0))), scale, q[weight].axis),
        ]
        for name in bias:
            integers = np.pad(self._graph.constants[name], (0, more))
            inputs.append(self._bias(integers, q[value].scale, scale, q[name].axis))
        result = self.builder.node("Conv", inputs, name=node.name, **attributes)
        if not more:
            self._leave(result, node.name, clamp, self.integers(node.name))
            return
        wide = self.builder.fresh()
        self._leave(result, node.name, clamp, wide)
        cut = [wide, self.indices(0), self.indices(len(filters)), self.indices(1)]
        self.builder.node("Slice", cut, self.integers(node.name))

    def _weight(self, integers: npt.NDArray[Any], scale: npt.NDArray[np.float32], axis: int | None) -> str:
        inputs = [self.builder.constant(integers), self.builder.constant(scale)]
        if integers.ndim == 2:
            # An absent zero point is 0, and so is this one; but without it onnxruntime does not recognise QGemm.
            inputs.append(self.builder.constant(np.zeros(scale.shape, np.int8)))
        return self.builder.node("DequantizeLinear", inputs, axis=axis)

    def _bias(
        self,
        integers: npt.NDArray[Any],
        x_scale: npt.NDArray[np.float32],
        w_scale: npt.NDArray[np.float32],
        axis: int | None,
    ) -> str:
        """The bias scale is the product it is defined as, input scale x weight scale, which onnxruntime folds into a
        constant when it loads the file: the same float32 numbers, without storing a second scale per channel.
        """
        scale = self.builder.node("Mul", [self.builder.constant(x_scale), self.builder.constant(w_scale)])
        return self.builder.node(
            "DequantizeLinear", [self.builder.constant(integers.astype(np.int32)), scale], axis=axis
        )

    def compute(
        self, node: Node, kind: str, inputs: list[str], *, clamp: Clamp | None = None, **attributes: Any
    ) -> None:
        result = self.builder.node(kind, inputs, name=node.name, **attributes)
        self._leave(result, node.name, clamp, self.integers(node.name))

    def _leave(self, result: str, value: str, clamp: Clamp | None, target: str) -> None:
        """Put the float tensor `result` on the grid of `value`, within `clamp`, as the integer tensor `target`."""
        limits = self._limits(value, clamp)
        integers = self.quantize(result, value, self._type, None if limits else target)
        if limits:
            self.builder.node("Clip", [integers, *limits], target)

    def movable(self, value: str) -> str:
        return self.integers(value)

    def readers(self, value: str) -> list[Node]:
        return [node for node in self._graph.nodes if value in node.inputs]

    def move(
        self,
        node: Node,
        kind: str,
        values: list[str],
        extra: list[str],
        *,
        source: str | None = None,
        **attributes: Any,
    ) -> None:
        self._same_grid(node, values)
        tensors = [self.integers(value) for value in values] if source is None else [source]
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

    def fill(self, node: Node, real: float) -> None:
        integer = self.scalar(int(self.grid(node.name).quantize(np.asarray(real, np.float32))))
        self.builder.node("Clip", [self.integers(node.inputs[0]), integer, integer], self.integers(node.name))

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
        return self._numbers(self._graph.quantizations[value], kind)

    def _numbers(self, q: Quantization, kind: str) -> list[str]:
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
