"""ONNX nodes of products of activations: MatMul between Q/DQ pairs, which onnxruntime runs in integers."""

from __future__ import annotations

from edgeq.formats.onnx.context import Context, QuantizedContext
from edgeq.formats.onnx.emit.table import EMITTERS
from edgeq.graph.ir import Node
from edgeq.graph.ops import MatMul

__all__: list[str] = []


@EMITTERS.rule(MatMul)
def _matmul(context: Context, node: Node, op: MatMul) -> None:
    left, right = node.inputs
    if not op.transposed:
        other = context.real(right)
    else:
        rank = len(context.shape(right))
        turned = context.builder.node(
            "Transpose", [context.movable(right)], perm=[*range(rank - 2), rank - 1, rank - 2]
        )
        other = context.read(turned, context.grid(right)) if isinstance(context, QuantizedContext) else turned
    context.compute(node, "MatMul", [context.real(left), other])
