"""Patterns of several nodes that more than one stage looks for."""

from __future__ import annotations

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import HardSigmoid, Mul, Sigmoid

__all__ = ["gates_itself"]


def gates_itself(graph: Graph, node: Node) -> Node | None:
    """Find the sigmoid or hard sigmoid of the very value that the product `node` multiplies by it (SiLU, hard swish).

    None where `node` is no product, or no such one.
    """
    if not isinstance(node.op, Mul):
        return None
    for x, name in (node.inputs, node.inputs[::-1]):
        gate = graph.node(name)
        if gate is not None and isinstance(gate.op, (HardSigmoid, Sigmoid)) and gate.inputs == (x,):
            return gate
    return None
