"""Does onnxruntime compute the integers it should? Op by op, on the written file itself.

The file is cut at every integer activation: each op reads what the reference says its inputs are, so that a step of
difference is charged to the op that made it and not to all that follow. Cutting keeps every DequantizeLinear - op -
QuantizeLinear group whole, so each still fuses into the kernel it becomes in the uncut file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from edgeq.config.formats import REFERENCE, Rounding
from edgeq.errors import ArtifactError
from edgeq.formats.exactness import Difference, Exactness, compare, gather
from edgeq.formats.onnx.file import QUANTIZED_SUFFIX, Model, read_model
from edgeq.formats.onnx.reference import evaluate, interpolates, run_ort_rounding
from edgeq.formats.onnx.session import OrtPieces
from edgeq.graph.ops import Shape
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run

__all__ = ["cut_at_integers", "integer_tensors", "verify_onnx"]

BATCH = 4
"""How many images are compared at once; every activation of the network is in memory, on both sides."""

FED = "/fed"


def verify_onnx(
    graph: IntegerGraph,
    data: bytes,
    inputs: npt.NDArray[np.float32],
    activations: Literal["int8", "uint8"],
    *,
    rounding: Rounding = REFERENCE,
) -> Exactness:
    """Compare every op of the file `data` with the integers `graph` stands for, on real `inputs` ``(N, C, H, W)``.

    Against "tflite" onnxruntime differs by a step near ties; bilinear resizing is held to onnxruntime's own positions.
    Against "onnxruntime", its own arithmetic, it should agree everywhere, which shows that the ties are all there is.
    Raises `ArtifactError` when the file is not of this graph.
    """
    tensors = integer_tensors(graph, read_model(data)[0])
    (entry,) = graph.inputs
    shapes = {tensors[name]: graph.shapes[name] for name in tensors}
    pieces = OrtPieces(cut_at_integers(data, shapes, tensors[entry], activations))
    shift = 128 if activations == "uint8" else 0

    def differences() -> Iterator[tuple[str, Difference]]:
        for start in range(0, len(inputs), BATCH):
            integers = graph.quantizations[entry].quantize(inputs[start : start + BATCH])
            values: Mapping[str, npt.NDArray[Any]] = (
                run(graph, integers) if rounding == "tflite" else run_ort_rounding(graph, integers, activations)
            )
            given = {entry: integers, **values}
            feeds = {tensors[name]: (given[name].astype(np.int16) + shift).astype(activations) for name in tensors}
            results = pieces.run({tensor + FED: array for tensor, array in feeds.items()})
            for node in graph.nodes:
                own = interpolates(node)
                expected = evaluate(graph, node, given, activations) if own else given[node.name]
                yield node.name, compare(expected, results[tensors[node.name]].astype(np.int16) - shift)

    return gather(f"{rounding} rounding", [node.name for node in graph.nodes], differences())


def cut_at_integers(data: bytes, tensors: Mapping[str, Shape], entry: str, activations: str) -> bytes:
    """A model of loose pieces: every integer tensor of `tensors` (name to batch-1 shape) but `entry` is an output, and
    where one is read there is an input of the same name with `FED` behind it. Conversions at the edges go. Any batch.
    """
    whole = onnx.ModelProto.FromString(data)
    needed, read = set(tensors) - {entry}, set[str]()
    kept: list[onnx.NodeProto] = []
    for node in reversed(whole.graph.node):
        if not needed & set(node.output):
            continue
        piece = onnx.NodeProto()
        piece.CopyFrom(node)
        piece.input[:] = [name + FED if name in tensors else name for name in node.input]
        needed |= set(node.input) - set(tensors)
        read |= set(piece.input)
        kept.append(piece)
    produced = {name for node in kept for name in node.output}
    kind = onnx.TensorProto.UINT8 if activations == "uint8" else onnx.TensorProto.INT8

    def infos(suffix: str, those: set[str]) -> list[onnx.ValueInfoProto]:
        return [
            onnx.helper.make_tensor_value_info(name + suffix, kind, ["N", *shape[1:]])
            for name, shape in tensors.items()
            if name + suffix in those
        ]

    initializers = [tensor for tensor in whole.graph.initializer if tensor.name in read]
    graph = onnx.helper.make_graph(kept[::-1], whole.graph.name, infos(FED, read), infos("", produced), initializers)
    built = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    return bytes(built.SerializeToString())


def integer_tensors(graph: IntegerGraph, model: Model) -> dict[str, str]:
    """The integer tensor of every activation, by value."""
    known = {name for node in model.graph.node for name in (*node.input, *node.output)}
    tensors = {}
    for value in (*graph.inputs, *(node.name for node in graph.nodes)):
        tensors[value] = value + QUANTIZED_SUFFIX if value + QUANTIZED_SUFFIX in known else value
        if tensors[value] not in known:
            raise ArtifactError(f"the file has no tensor for {value}", where=graph.name)
    return tensors
