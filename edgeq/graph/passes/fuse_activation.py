"""Activations into the convolution, linear layer or add before them: ReLU, ReLU6, the end of a hard sigmoid, the lower
half of a PReLU. The grids of such values end where the activation does, so that saturation computes it in every
runtime's kernel.

Only where the activation is the sole reader; any other Clamp stays a node of its own.
"""

from __future__ import annotations

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import NEGATIVE, RELU, RELU6, UNIT, Clamp
from edgeq.graph.passes._edit import Edit

__all__ = ["fuse_activation"]

FUSED = (RELU, RELU6, UNIT, NEGATIVE)


def fuse_activation(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(Clamp):
        before = edit.producer(node.inputs[0])
        if before is None or node.op not in FUSED or edit.only_reader(before.name) is not node:
            continue
        if before.op.accepts_activation and before.op.fused_activation is None:
            edit.replace(before, Node(before.name, before.op.with_activation(node.op.clamp), before.inputs))
            edit.forward(node.name, before.name)
    return edit.done()
