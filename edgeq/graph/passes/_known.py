"""What is known about values without running the graph."""

from __future__ import annotations

from edgeq.graph.ir import Graph

__all__ = ["non_negative"]


def non_negative(graph: Graph) -> set[str]:
    """Names of values that can hold nothing below zero."""
    known: set[str] = set()
    for node in graph.nodes:
        if node.op.non_negative(all(name in known for name in graph.activations(node))):
            known.add(node.name)
    return known
