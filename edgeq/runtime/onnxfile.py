"""Read ONNX files: parse, and learn on which grids their integer inputs and outputs lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from edgeq.errors import ArtifactError

__all__ = ["MOVES", "QUANTIZED_SUFFIX", "Grid", "Model", "read_model"]

QUANTIZED_SUFFIX = "_quantized"
"""Ends the name of the integer tensor of an input or output whose plain name the user's own tensor has."""

MOVES = frozenset(
    (
        "Clip",
        "Concat",
        "Flatten",
        "Identity",
        "Max",
        "MaxPool",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
"""Ops whose integer output lies on the grid of their first input."""


@dataclass(frozen=True)
class Grid:
    """real = scale x (integer - zero point), integers of type `dtype`; one grid for a whole tensor."""

    scale: np.float32
    zero_point: int
    dtype: np.dtype[Any]

    def quantize(self, real: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Nearest integers, half to even as ONNX's QuantizeLinear, saturated."""
        limits = np.iinfo(self.dtype)
        nearest = np.rint(np.asarray(real, np.float32) / self.scale) + self.zero_point
        return np.asarray(np.clip(nearest, limits.min, limits.max).astype(self.dtype))

    def dequantize(self, integers: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return (integers.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale


class Model:
    """A parsed file with its links: who makes a tensor and who reads it."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.initializers: Mapping[str, onnx.TensorProto] = {t.name: t for t in proto.graph.initializer}
        self.producer: dict[str, onnx.NodeProto] = {o: n for n in proto.graph.node for o in n.output if o}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in proto.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)
        self.inputs = [value for value in proto.graph.input if value.name not in self.initializers]
        self.outputs = list(proto.graph.output)

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """An initializer's content, or that of a Constant node."""
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        node = self.producer.get(name)
        if node is not None and node.op_type == "Constant":
            return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)
        return None

    def grid(self, node: onnx.NodeProto) -> Grid | None:
        """Grid of a QuantizeLinear or DequantizeLinear; None when it has several scales or computes them."""
        scale = self.constant(node.input[1])
        zero = self.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.array(0, np.uint8)
        if scale is None or zero is None or scale.size != 1:
            return None
        return Grid(np.float32(scale.reshape(())), int(zero.reshape(())), zero.dtype)

    def input_grid(self, name: str) -> Grid | None:
        """What an integer input's values mean: found at the DequantizeLinear that reads it, past moving ops."""
        for node in self.readers.get(name, []):
            if node.op_type == "DequantizeLinear" and node.input[0] == name:
                return self.grid(node)
            if node.op_type in MOVES and node.input[0] == name:
                found = self.input_grid(node.output[0])
                if found:
                    return found
        return None

    def output_grid(self, name: str) -> Grid | None:
        """What an output's values mean: at the QuantizeLinear (integer) or DequantizeLinear (float) that makes it."""
        node = self.producer.get(name)
        if node is None:
            return self.input_grid(name)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self.grid(node)
        return self.output_grid(node.input[0]) if node.op_type in MOVES else None

    def signed_activations(self) -> bool:
        """Whether a QuantizeLinear makes int8, which onnxruntime fuses on x86 only when told to."""
        zeros = (n.input[2] for n in self.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2)
        found = (self.constant(name) for name in zeros)
        inputs = any(v.type.tensor_type.elem_type == onnx.TensorProto.INT8 for v in self.inputs)
        return inputs or any(zero is not None and zero.dtype == np.int8 for zero in found)

    def with_open_batch(self) -> bytes:
        """A copy whose inputs and outputs take any batch. Shapes noted inside are dropped; they would hold the old."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        for value in [*proto.graph.input, *proto.graph.output]:
            dims = value.type.tensor_type.shape.dim
            if dims and value.name not in self.initializers:
                dims[0].dim_param = "N"
        del proto.graph.value_info[:]
        return bytes(proto.SerializeToString())


def read_model(source: Path | bytes) -> tuple[Model, bytes]:
    """The parsed model and its bytes. Raises `ArtifactError` for a file that is missing or is no ONNX model."""
    where = "" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {where}", why=error.strerror or str(error)) from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ArtifactError("not an ONNX model", where=where, why=str(error)) from error
    if not proto.graph.node or not proto.opset_import:
        raise ArtifactError("not an ONNX model", where=where, why="it holds no graph")
    return Model(proto), data
