"""Builder: assemble an ONNX model with every constant stored once and every internal name short.

A quantized file is mostly nodes and names once its weights are int8, so scales, zero points and index vectors are
shared by content, internal tensors get names of one or two characters, and only what a person looks for (inputs,
outputs, integer activations, operators) carries its module path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeq.errors import UnsupportedError
from edgeq.graph.ops import Shape

__all__ = ["IR_VERSION", "OPSET", "Builder", "tensor"]

OPSET = 19
"""Opset of written files; it has all that edgeq needs, and every onnxruntime from 1.15 (2023) on runs it."""

IR_VERSION = 9
"""IR version that belongs to opset 19; older runtimes refuse the newer default of `onnx.helper`."""

_TYPES: Mapping[str, int] = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def tensor(name: str, array: npt.NDArray[Any]) -> TensorProto:
    """An initializer holding `array` as raw little-endian bytes."""
    array = np.asarray(array, order="C")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return helper.make_tensor(name, _TYPES[array.dtype.name], array.shape, little.tobytes(), raw=True)


class Builder:
    """Nodes, initializers and names of one model being written. Same calls, same bytes."""

    def __init__(self, taken: Sequence[str]) -> None:
        """`taken`: names used for values people see, never given to an internal tensor."""
        self._taken = set(taken)
        self._count = 0
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._shared: dict[tuple[str, Shape, bytes], str] = {}

    def fresh(self) -> str:
        """A short name nobody uses."""
        while True:
            number, name = self._count, ""
            self._count += 1
            while True:
                number, digit = divmod(number, len(_ALPHABET))
                name = _ALPHABET[digit] + name
                if number == 0:
                    break
                number -= 1
            if name not in self._taken:
                return name

    def constant(self, array: npt.NDArray[Any], name: str | None = None) -> str:
        """The name of an initializer with this content; shared with equal ones unless it has a `name` of its own."""
        array = np.asarray(array, order="C")
        if name is None:
            key = (array.dtype.name, array.shape, array.tobytes())
            if key in self._shared:
                return self._shared[key]
            name = self._shared[key] = self.fresh()
        self._initializers.append(tensor(name, array))
        return name

    def node(
        self, kind: str, inputs: Sequence[str], output: str | None = None, *, name: str = "", **attributes: Any
    ) -> str:
        """Append a node of one output and return that output's name. Attributes that are None are left out."""
        output = output if output is not None else self.fresh()
        kept = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=name or None, **kept))
        return output

    def finish(
        self,
        name: str,
        inputs: Mapping[str, tuple[str, Shape]],
        outputs: Mapping[str, tuple[str, Shape]],
        batch: int | None,
    ) -> bytes:
        """Serialised and checked model. `inputs` and `outputs`: name to (type, batch-1 shape); `batch` None: any.

        Raises `UnsupportedError` when `onnx.checker` objects, which would be an emitter's mistake.
        """
        leading: int | str = batch if batch is not None else "N"

        def infos(values: Mapping[str, tuple[str, Shape]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(key, _TYPES[kind], [leading, *shape[1:]])
                for key, (kind, shape) in values.items()
            ]

        graph = helper.make_graph(self._nodes, name, infos(inputs), infos(outputs), self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "edgeq"
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise UnsupportedError("the ONNX checker refuses the model", where=name, why=str(error)) from error
        return bytes(model.SerializeToString(deterministic=True))
