"""A TFLite file as plain rows (tensors, operators) and their serialisation into a small flatbuffer.

The generated object API packs every vector of every tensor anew; networks repeat theirs by the hundred (shapes, zero
points, scales). Here equal vectors, strings, options and weight buffers are stored once and shared by offset, which the
format allows and readers never notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgeq.graph.ops import Shape
from edgeq.integer.graph import Quantization

__all__ = ["File", "Operator", "Tensor", "serialize"]

SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
"""The schema's ``force_align`` for buffer data: kernels map weights straight from the file."""

TYPES: dict[str, int] = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
    "int16": schema.TensorType.INT16,
    "int64": schema.TensorType.INT64,
}
_BYTE_CODES = 127  # the old one-byte field says 127 for "see the wider field"


@dataclass(frozen=True)
class Tensor:
    """One tensor: `dtype` is a key of `TYPES`; `data` is None for activations, int8 where `dtype` is int4."""

    name: str
    shape: Shape
    dtype: str
    quantization: Quantization | None = None
    data: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Operator:
    """One op: builtin code and version, tensor indices (-1: absent), and an options object of the schema."""

    code: int
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None


@dataclass
class File:
    """Tensors and operators of a file that is being written, in execution order."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    metadata: dict[str, bytes] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> int:
        """Append a tensor and return its index."""
        self.tensors.append(tensor)
        return len(self.tensors) - 1


class _Pool:
    """A flatbuffer builder that remembers what it wrote, by content."""

    def __init__(self, size: int) -> None:
        self.builder = flatbuffers.Builder(size)
        self._offsets: dict[Hashable, int] = {}

    def _once(self, key: Hashable, write: Callable[[], int]) -> int:
        if key not in self._offsets:
            self._offsets[key] = write()
        return self._offsets[key]

    def vector(self, values: npt.NDArray[Any]) -> int:
        flat = np.ascontiguousarray(values).reshape(-1)
        key = ("vector", flat.dtype.str, flat.tobytes())
        return self._once(key, lambda: int(self.builder.CreateNumpyVector(flat)))

    def integers(self, values: Sequence[int]) -> int:
        return self.vector(np.asarray(values, np.int32))

    def string(self, text: str) -> int:
        return self._once(("string", text), lambda: int(self.builder.CreateString(text)))

    def options(self, options: Any) -> int:
        key = (type(options).__name__, *sorted((k, repr(v)) for k, v in vars(options).items()))
        return self._once(key, lambda: int(options.Pack(self.builder)))

    def payload(self, data: bytes) -> int:
        """A byte vector whose first byte is aligned as kernels expect."""

        def write() -> int:
            self.builder.StartVector(1, len(data), BUFFER_ALIGNMENT)
            start = self.builder.head - len(data)
            self.builder.head = start
            self.builder.Bytes[start : start + len(data)] = data
            return int(self.builder.EndVector())

        return self._once(("payload", data), write)

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def quantization(self, q: Quantization) -> int:
        scale, zero = self.vector(np.atleast_1d(q.scale)), self.vector(np.atleast_1d(q.zero_point).astype(np.int64))

        def write() -> int:
            schema.QuantizationParametersStart(self.builder)
            schema.QuantizationParametersAddScale(self.builder, scale)
            schema.QuantizationParametersAddZeroPoint(self.builder, zero)
            schema.QuantizationParametersAddQuantizedDimension(self.builder, q.axis or 0)
            return int(schema.QuantizationParametersEnd(self.builder))

        return self._once(("quantization", scale, zero, q.axis), write)


def serialize(file: File, description: str = "edgeq") -> bytes:
    """The file's bytes; the same rows always give the same bytes."""
    data = [_content(tensor) for tensor in file.tensors]
    pool = _Pool(sum(map(len, data)) + 65536)
    builder = pool.builder
    buffers, buffer_of = _buffers(pool, file.tensors, data)
    metadata = [_metadata(pool, buffers, name, content) for name, content in file.metadata.items()]
    tensors = [_tensor(pool, tensor, buffer_of[bytes_]) for tensor, bytes_ in zip(file.tensors, data, strict=True)]
    # The commonest first: index 0 is the default, which takes no room.
    codes = [kind for kind, _ in Counter((op.code, op.version) for op in file.operators).most_common()]
    operators = [_operator(pool, op, codes.index((op.code, op.version))) for op in file.operators]
    code_tables = [_code(builder, code, version) for code, version in codes]
    tensor_vector, operator_vector = pool.tables(tensors), pool.tables(operators)
    inputs, outputs = pool.integers(file.inputs), pool.integers(file.outputs)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensor_vector)
    schema.SubGraphAddInputs(builder, inputs)
    schema.SubGraphAddOutputs(builder, outputs)
    schema.SubGraphAddOperators(builder, operator_vector)
    subgraphs = pool.tables([schema.SubGraphEnd(builder)])
    metadata_vector = pool.tables(metadata) if metadata else 0
    buffer_vector, code_vector, text = pool.tables(buffers), pool.tables(code_tables), pool.string(description)
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, SCHEMA_VERSION)
    schema.ModelAddOperatorCodes(builder, code_vector)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddDescription(builder, text)
    schema.ModelAddBuffers(builder, buffer_vector)
    if metadata_vector:
        schema.ModelAddMetadata(builder, metadata_vector)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def _content(tensor: Tensor) -> bytes:
    """What a buffer holds: nothing for activations, two values a byte (the first in the low half) for int4."""
    if tensor.data is None:
        return b""
    flat = np.ascontiguousarray(tensor.data).reshape(-1)
    if tensor.dtype != "int4":
        return flat.tobytes()
    halves = np.pad(flat, (0, flat.size % 2)).view(np.uint8) & 15
    return (halves[0::2] | halves[1::2] << 4).astype(np.uint8).tobytes()


def _buffers(pool: _Pool, tensors: Sequence[Tensor], data: Sequence[bytes]) -> tuple[list[int], dict[bytes, int]]:
    """Buffer tables and the index of each distinct content; index 0 is the empty buffer, as the format wants it."""
    index = {content: place for place, content in enumerate(dict.fromkeys([b"", *data]))}
    owners = dict(zip(reversed(data), reversed(tensors), strict=True))
    tables = []
    for content in index:
        payload = pool.payload(content) if content else 0
        schema.BufferStart(pool.builder)
        if content:
            schema.BufferAddData(pool.builder, payload)
        tables.append(int(schema.BufferEnd(pool.builder)))
        quantization = owners[content].quantization if content else None
        if quantization is not None and quantization.axis is not None:
            # Its scales are stored here because their size fills the gap to the next payload's alignment.
            pool.vector(np.atleast_1d(quantization.scale))
    return tables, index


def _metadata(pool: _Pool, buffers: list[int], name: str, content: bytes) -> int:
    """An entry, and its buffer behind the others."""
    payload, text = pool.payload(content), pool.string(name)
    schema.BufferStart(pool.builder)
    schema.BufferAddData(pool.builder, payload)
    buffers.append(int(schema.BufferEnd(pool.builder)))
    schema.MetadataStart(pool.builder)
    schema.MetadataAddName(pool.builder, text)
    schema.MetadataAddBuffer(pool.builder, len(buffers) - 1)
    return int(schema.MetadataEnd(pool.builder))


def _tensor(pool: _Pool, tensor: Tensor, buffer: int) -> int:
    name, shape = pool.string(tensor.name), pool.integers(tensor.shape)
    quantization = pool.quantization(tensor.quantization) if tensor.quantization is not None else 0
    schema.TensorStart(pool.builder)
    schema.TensorAddShape(pool.builder, shape)
    schema.TensorAddType(pool.builder, TYPES[tensor.dtype])
    schema.TensorAddBuffer(pool.builder, buffer)
    schema.TensorAddName(pool.builder, name)
    if quantization:
        schema.TensorAddQuantization(pool.builder, quantization)
    return int(schema.TensorEnd(pool.builder))


def _operator(pool: _Pool, op: Operator, code: int) -> int:
    inputs, outputs = pool.integers(op.inputs), pool.integers(op.outputs)
    options = pool.options(op.options) if op.options is not None else 0
    schema.OperatorStart(pool.builder)
    schema.OperatorAddOpcodeIndex(pool.builder, code)
    schema.OperatorAddInputs(pool.builder, inputs)
    schema.OperatorAddOutputs(pool.builder, outputs)
    if options:
        kind = type(op.options).__name__.removesuffix("T")
        schema.OperatorAddBuiltinOptionsType(pool.builder, getattr(schema.BuiltinOptions, kind))
        schema.OperatorAddBuiltinOptions(pool.builder, options)
    return int(schema.OperatorEnd(pool.builder))


def _code(builder: flatbuffers.Builder, code: int, version: int) -> int:
    schema.OperatorCodeStart(builder)
    schema.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, _BYTE_CODES))
    schema.OperatorCodeAddBuiltinCode(builder, code)
    schema.OperatorCodeAddVersion(builder, version)
    return int(schema.OperatorCodeEnd(builder))
