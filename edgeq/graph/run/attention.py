"""Float kernels of products of activations."""

from __future__ import annotations

from edgeq.graph import ops
from edgeq.graph.run.table import KERNELS, Kernel

__all__: list[str] = []


@KERNELS.rule(ops.MatMul)
def _matmul(op: ops.MatMul) -> Kernel:
    return lambda x, y: x @ (y.transpose(-1, -2) if op.transposed else y)
