"""Insert a requantization wherever an op of 8 bits reads a value of 16, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Requantize
from edgeq.graph.passes._edit import Edit

__all__ = ["insert_requantize", "remove_requantize"]


def insert_requantize(graph: Graph, widths: Mapping[str, int], ends: int | None = None) -> Graph:
    """Bring values to the width of the ops that read them, with one requantization for all readers of a value.

    `widths` says 8 or 16 for every value; an op reads the width that it writes. `ends` is the width of network outputs,
    None for the width they have. Returns the very same graph where nothing is to be done.
    """
    copies: dict[tuple[str, int], Node] = {}
    nodes: list[Node] = []

    def at(value: str, bits: int) -> str:
        if widths[value] == bits:
            return value
        if (value, bits) not in copies:
            copies[value, bits] = Node(f"{value}/a{bits}", Requantize(bits), (value,))
            nodes.append(copies[value, bits])
        return copies[value, bits].name

    for node in graph.nodes:
        if not isinstance(node.op, Requantize):
            bits = widths[node.name]
            inputs = tuple(name if name in graph.constants else at(name, bits) for name in node.inputs)
            node = Node(node.name, node.op, inputs)
        nodes.append(node)
    outputs = tuple(at(name, ends or widths[name]) for name in graph.outputs)
    return graph.replace(nodes=tuple(nodes), outputs=outputs) if copies else graph


def remove_requantize(graph: Graph) -> Graph:
    """Undo `insert_requantize`; a float network has no requantizations."""
    edit = Edit(graph)
    for node in graph.of_kind(Requantize):
        edit.forward(node.name, node.inputs[0])
    return edit.done()
