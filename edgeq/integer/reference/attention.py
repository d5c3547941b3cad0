"""Products of activations as LiteRT's reference kernel of BATCH_MATMUL computes them.

Sums are taken in float64 matrix products: every partial sum is below its last exact integer.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.integer.fixedpoint import multiply, multiply_wide, quantize_multiplier
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.reference.table import KERNELS, Array

__all__ = ["products"]


def products(op: ops.MatMul, x: Array, y: Array, left: Quantization, right: Quantization) -> Array:
    """Sums of products of two activations' steps from zero, int64."""
    one, other = (v.astype(np.float64) - int(q.zero_point) for v, q in ((x, left), (y, right)))
    return np.asarray(np.rint(one @ (other.swapaxes(-1, -2) if op.transposed else other)).astype(np.int64))


@KERNELS.rule(ops.MatMul)
def _matmul(graph: IntegerGraph, node: Node, op: ops.MatMul, inputs: list[Array]) -> Array:
    left, right, output = (graph.quantizations[name] for name in (*node.inputs, node.name))
    total = products(op, inputs[0], inputs[1], left, right)
    product = left.scale * right.scale  # in float32, as the kernel has it
    ratio = quantize_multiplier(float(product) / float(output.scale))
    rescale = multiply_wide if left.dtype == "int16" else multiply
    return np.clip(rescale(total, ratio) + int(output.zero_point), *output.limits)
