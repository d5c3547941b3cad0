"""Products of activations as ONNX Runtime computes them: integer sums, rescaled in float32."""

from __future__ import annotations

from edgeq.formats.onnx.reference.rescale import requantize
from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.graph.ops import MatMul
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.attention import products

__all__: list[str] = []


@KERNELS.rule(MatMul)
def _matmul(graph: IntegerGraph, node: Node, op: MatMul, inputs: list[Integers], shift: int) -> Integers:
    left, right, output = (graph.quantizations[name] for name in (*node.inputs, node.name))
    total = products(op, inputs[0], inputs[1], left, right)
    return requantize(total, left.scale * right.scale / output.scale, output, None)
