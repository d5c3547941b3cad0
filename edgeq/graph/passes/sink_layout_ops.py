"""A permutation or reshape goes behind the function of one value that follows, towards the one that undoes it.

Networks with channels last permute each layer's input and permute its output back (`edgeq.graph.capture.channels`).
With a GELU in between, the two permutations do not meet.
"""

from __future__ import annotations

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Permute, Reshape, Unary
from edgeq.graph.passes._edit import Edit

__all__ = ["sink_layout_ops"]

MOVES = (Permute, Reshape)


def sink_layout_ops(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(Unary):
        before, after = edit.producer(node.inputs[0]), edit.only_reader(node.name)
        if before is None or after is None or edit.only_reader(before.name) is not node:
            continue
        if type(before.op) not in MOVES or type(after.op) is not type(before.op) or edit.touched(before):
            continue
        inner = f"{node.name}.picture"
        edit.replace(node, Node(inner, node.op, before.inputs), Node(node.name, before.op, (inner,)))
    return edit.done()
