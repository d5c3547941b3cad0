"""The rows of a TFLite file being written: what every emitter appends to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgeq.formats.tflite.flatbuffer import File, Operator, Tensor
from edgeq.formats.tflite.layout import Layout, Network
from edgeq.graph.ir import Node
from edgeq.graph.ops import Shape
from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = ["NHWC", "Emitter", "grid_key", "options_of"]

NHWC = (0, 2, 3, 1)


class Emitter:
    """Collects a file's rows. `index` maps a value's name to its tensor.

    `weights` is the type that weights of four bits or fewer are stored in: int8 or int4. `dtype` is the type of the
    values that the op being written reads, and `sums` that of its bias.
    """

    def __init__(self, graph: Network, layout: Layout, weights: str = "int8") -> None:
        self.graph, self.layout, self.weights = graph, layout, weights
        self.file = File()
        self.index: dict[str, int] = {}
        self._numbers: dict[tuple[Shape, bytes], int] = {}
        self.quantizations = graph.quantizations if isinstance(graph, IntegerGraph) else {}
        self.dtype = "float32"

    @property
    def wide(self) -> bool:
        return self.dtype == "int16"

    @property
    def sums(self) -> str:
        return {"float32": "float32", "int8": "int32", "int16": "int64"}[self.dtype]

    def type_of(self, name: str) -> str:
        """The type a value is computed in."""
        q = self.quantizations.get(name)
        return "float32" if q is None else q.dtype

    def file_shape(self, shape: Shape) -> Shape:
        return tuple(shape[i] for i in NHWC) if len(shape) == 4 else shape

    def activation(self, name: str, shape: Shape, quantization: Quantization | None, dtype: str | None = None) -> int:
        """A tensor for values computed at run time; `shape` as the file has it."""
        return self.file.add(Tensor(name, shape, dtype or self.dtype, quantization))

    def output(self, node: Node) -> int:
        """The tensor of the node's own value, created when first asked for."""
        if node.name not in self.index:
            shape = self.shape_of(node.name)
            q, kind = self.quantizations.get(node.name), self.type_of(node.name)
            self.index[node.name] = self.activation(node.name, shape, q, kind)
        return self.index[node.name]

    def shape_of(self, name: str) -> Shape:
        """The shape of a value's tensor."""
        shape = self.file_shape(self.graph.shapes[name])
        return (*shape[:-2], shape[-1], shape[-2]) if self.layout.turned(name) else shape

    def like(self, source: int, name: str, shape: Shape) -> int:
        """An intermediate tensor with the quantization of tensor `source`."""
        return self.activation(name, shape, self.file.tensors[source].quantization, self.file.tensors[source].dtype)

    def shaped(self, x: int, shape: Shape, name: str) -> int:
        """Tensor `x` in another shape, which is called `name` if that takes a RESHAPE."""
        if self.file.tensors[x].shape == shape:
            return x
        y = self.like(x, name, shape)
        self.operator(schema.BuiltinOperator.RESHAPE, (x, self.numbers(shape)), y, None, 1)
        return y

    def constant(self, name: str, data: npt.NDArray[Any], quantization: Quantization | None = None) -> int:
        """A tensor with content. Constants are named by their role: the operator's output says whose they are, and a
        path for each would take more room than the values of a small layer."""
        return self.file.add(Tensor(name, data.shape, str(data.dtype), quantization, np.ascontiguousarray(data)))

    def weight(self, data: npt.NDArray[Any], quantization: Quantization | None) -> int:
        """A layer's weights, packed where they may and can be: 16-bit kernels take none.

        Their operators keep the versions of int8: the converter raises them (7, depthwise 7, linear 10), but LiteRT's
        reference kernels, which do know INT4, are not registered that high.
        """
        few = quantization is not None and (quantization.bits or 8) <= 4
        packed = few and self.weights == "int4" and not self.wide
        return self.file.add(Tensor("weight", data.shape, "int4" if packed else str(data.dtype), quantization, data))

    def numbers(self, values: Any) -> int:
        """A small int32 constant: axes, shapes, paddings. Equal ones are one tensor."""
        data = np.asarray(values, np.int32)
        key = (data.shape, data.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.constant("const", data)
        return self._numbers[key]

    def operator(
        self, code: int, inputs: tuple[int, ...], output: int, options: Any = None, version: int = 0, wide: int = 0
    ) -> None:
        """Append an operator. `version` 0 is the usual one: 1 in float, 2 where int8 came with the second. `wide` is
        that of int16, which mostly came with the third."""
        number = version or (1 if self.dtype == "float32" else 2)
        if self.wide:
            number = wide or version or 3
        self.file.operators.append(Operator(code, number, inputs, (output,), options))


def grid_key(q: Quantization | None) -> tuple[float, int] | None:
    """Scale and zero point, to compare by."""
    return None if q is None else (float(q.scale), int(q.zero_point))


def options_of(kind: str, **fields: Any) -> Any:
    options = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options
