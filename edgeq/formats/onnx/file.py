"""Read ONNX files: parse, and learn on which grids their integer inputs and outputs lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from edgeq.errors import ArtifactError
from edgeq.limits import read_bytes

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
        pending, seen = [name], {name}
        while pending:
            name = pending.pop()
            followers = []
            for node in self.readers.get(name, []):
                if node.op_type == "DequantizeLinear" and node.input[0] == name:
                    return self.grid(node)
                if node.op_type in MOVES and node.input[0] == name and node.output[0] not in seen:
                    seen.add(node.output[0])
                    followers.append(node.output[0])
            pending += reversed(followers)
        return None

    def output_grid(self, name: str) -> Grid | None:
        """What an output's values mean: at the QuantizeLinear (integer) or DequantizeLinear (float) that makes it."""
        while (node := self.producer.get(name)) is not None:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                return self.grid(node)
            if node.op_type not in MOVES:
                return None
            name = node.input[0]
        return self.input_grid(name)

    def signed_activations(self) -> bool:
        """Whether a QuantizeLinear makes int8, which onnxruntime fuses on x86 only when told to."""
        zeros = (n.input[2] for n in self.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2)
        zero_points = (self.constant(name) for name in zeros)
        inputs = any(v.type.tensor_type.elem_type == onnx.TensorProto.INT8 for v in self.inputs)
        return inputs or any(zero is not None and zero.dtype == np.int8 for zero in zero_points)

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
    """The parsed model and its bytes.

    Raises `ArtifactError` for a file that is missing, is no ONNX model, has ops that wait for each other, or keeps
    weights in other files: what those are called is the file's choice, and it may be any file of this machine.
    """
    where = "" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_bytes(source)
    except OSError as error:
        raise ArtifactError(f"cannot read {where}", why=error.strerror or str(error)) from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ArtifactError("not an ONNX model", where=where, why=str(error)) from error
    if not proto.graph.node or not proto.opset_import:
        raise ArtifactError("not an ONNX model", where=where, why="it holds no graph")
    outside = next((tensor for tensor in _tensors(proto) if tensor.data_location or tensor.external_data), None)
    if outside is not None:
        raise ArtifactError(
            f"tensor {outside.name!r} keeps its values in another file",
            where=where,
            hint="put them into the model: onnx.save(onnx.load(PATH), PATH)",
        )
    model = Model(proto)
    if stuck := _in_a_cycle(model):
        raise ArtifactError("not an ONNX model", where=where, why=f"op {stuck!r} waits for its own output")
    return model, data


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the file, those inside branches, loops, functions and sparse tensors included."""
    graphs = [proto.graph, *(graph for info in proto.training_info for graph in (info.initialization, info.algorithm))]
    nodes = [node for function in proto.functions for node in function.node]
    attributes = [attribute for function in proto.functions for attribute in function.attribute_proto]
    while graphs or nodes or attributes:
        for graph in graphs:
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        nodes += [node for graph in graphs for node in graph.node]
        attributes += [attribute for node in nodes for attribute in node.attribute]
        graphs, nodes = [], []
        for attribute in attributes:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
        attributes = []


def _in_a_cycle(model: Model) -> str | None:
    """The output of an op that can never run, since it needs what only comes after it."""
    place = {id(node): number for number, node in enumerate(model.graph.node)}
    needs = [
        {place[id(model.producer[name])] for name in node.input if name in model.producer} for node in model.graph.node
    ]
    followers: dict[int, list[int]] = {}
    for number, before in enumerate(needs):
        for one in before:
            followers.setdefault(one, []).append(number)
    ready = [number for number, before in enumerate(needs) if not before]
    done = 0
    while ready:
        number = ready.pop()
        done += 1
        for follower in followers.get(number, ()):
            needs[follower].discard(number)
            if not needs[follower]:
                ready.append(follower)
    if done == len(needs):
        return None
    return next(str((*model.graph.node[number].output, "")[0]) for number, before in enumerate(needs) if before)
