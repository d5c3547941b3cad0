"""TFLite operators of products of activations."""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgeq.formats.tflite.emit.emitter import Emitter, options_of
from edgeq.formats.tflite.emit.table import EMITTERS
from edgeq.graph import ops
from edgeq.graph.ir import Node

__all__: list[str] = []


@EMITTERS.rule(ops.MatMul)
def _matmul(e: Emitter, node: Node, op: ops.MatMul) -> None:
    left, right = (e.index[name] for name in node.inputs)
    turned = op.transposed != e.layout.turned(node.inputs[1])
    options = options_of(
        "BatchMatMulOptions",
        adjX=False,
        adjY=turned,
        asymmetricQuantizeInputs=False,
    )
    e.operator(schema.BuiltinOperator.BATCH_MATMUL, (left, right), e.output(node), options)
