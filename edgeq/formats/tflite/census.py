"""Census of any TFLite file, ours or a peer's, from its bytes alone."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import ArtifactError
from edgeq.formats.census import Census

__all__ = ["census"]

_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
_PADS = ("PAD", "PADV2", "MIRROR_PAD")
_TURNS = ("REVERSE_V2", "TRANSPOSE", "RESHAPE")
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
_MATMULS = ("FULLY_CONNECTED", "BATCH_MATMUL")
_WIDTHS = ({schema.TensorType.INT8, schema.TensorType.INT16}, {schema.TensorType.UINT8, schema.TensorType.INT16})
_FLOATS = (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.FLOAT64, schema.TensorType.BFLOAT16)


def census(data: bytes) -> Census:
    """Count the ops of the file's first subgraph. Raises `ArtifactError` for bytes that are no TFLite model.

    An op is float when a float tensor that is not a constant goes in or comes out; QUANTIZE and DEQUANTIZE are not
    float ops themselves, and they are inner ones unless they touch the model's own inputs or outputs. A QUANTIZE from
    8 bits to 16 or back is neither, wherever it stands.
    """
    try:
        model = schema.Model.GetRootAs(data, 0)
        if data[4:8] != b"TFL3" or model.SubgraphsLength() < 1:
            raise ArtifactError("these bytes are not a TFLite model")
        return _count(model, model.Subgraphs(0))
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError("this TFLite model is damaged", why=str(error)) from error


def _indices(vector: Any) -> list[int]:
    """A vector accessor's indices; absent vectors read as 0 and absent tensors as -1."""
    return [] if isinstance(vector, int) else [int(i) for i in vector if i >= 0]


def _count(model: Any, graph: Any) -> Census:
    edge = _edge(model, graph)
    kinds: Counter[str] = Counter()
    floats: Counter[str] = Counter()
    quantize = dequantize = requantize = pads = 0
    for place in range(graph.OperatorsLength()):
        op = graph.Operators(place)
        name = _name(model.OperatorCodes(op.OpcodeIndex()))
        inputs, outputs = _indices(op.InputsAsNumpy()), _indices(op.OutputsAsNumpy())
        kinds[name] += 1
        if name == "QUANTIZE" and {graph.Tensors(i).Type() for i in (*inputs, *outputs)} in _WIDTHS:
            requantize += 1
        elif name in _CONVERSIONS:
            inner = not edge & {*inputs, *outputs}
            quantize += inner and name == "QUANTIZE"
            dequantize += inner and name == "DEQUANTIZE"
        elif any(_floating(model, graph.Tensors(i)) for i in (*inputs, *outputs)):
            # Turning a float input round computes nothing and sits outside the integer part.
            floats[name] += not (name in _TURNS and bool(edge & {*inputs, *outputs}))
        pads += name in _PADS and _spatial(model, graph, inputs)
    return Census(
        kinds=dict(sorted(kinds.items())),
        float_ops=sum(floats.values()),
        transposes=kinds["TRANSPOSE"],
        quantize=quantize,
        dequantize=dequantize,
        spatial_pads=pads,
        float_convolutions=sum(floats[name] for name in _CONVOLUTIONS),
        float_matmuls=sum(floats[name] for name in _MATMULS),
        requantize=requantize,
    )


def _edge(model: Any, graph: Any) -> set[int]:
    """The model's inputs and outputs, and what ops that only turn pictures round make of them."""
    edge = {*_indices(graph.InputsAsNumpy()), *_indices(graph.OutputsAsNumpy())}
    turns = []
    for place in range(graph.OperatorsLength()):
        op = graph.Operators(place)
        if _name(model.OperatorCodes(op.OpcodeIndex())) in _TURNS:
            turns.append({*_indices(op.InputsAsNumpy())[:1], *_indices(op.OutputsAsNumpy())})
    for ends in (*turns, *reversed(turns)):  # forward from the inputs, back from the outputs
        if edge & ends:
            edge |= ends
    return edge


def _name(code: Any) -> str:
    if code.CustomCode():
        return str(code.CustomCode().decode())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return str(_NAMES.get(number, f"BUILTIN_{number}"))


def _constant(model: Any, tensor: Any) -> bool:
    buffer = model.Buffers(tensor.Buffer())
    return bool(buffer is not None and (buffer.DataLength() or buffer.Size()))


def _floating(model: Any, tensor: Any) -> bool:
    return tensor.Type() in _FLOATS and not _constant(model, tensor)


def _spatial(model: Any, graph: Any, inputs: list[int]) -> bool:
    """Does a PAD of a 4-D tensor touch height or width? Unknown (computed) counts are taken to."""
    if len(inputs) < 2 or graph.Tensors(inputs[0]).ShapeLength() != 4:
        return False
    tensor = graph.Tensors(inputs[1])
    if not _constant(model, tensor):
        return True
    data = bytes(model.Buffers(tensor.Buffer()).DataAsNumpy())
    width = 8 if tensor.Type() == schema.TensorType.INT64 else 4
    counts = struct.unpack(f"<8{'q' if width == 8 else 'i'}", data[: 8 * width])
    return any(counts[2:6])
