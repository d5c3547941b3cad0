"""A graph as a table of its nodes, for people (`print`) and programs (`edgeq show --json`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeq.errors import printable

if TYPE_CHECKING:
    from edgeq.graph.ir import Graph

__all__ = ["NodeRow", "format_table", "graph_rows"]


@dataclass(frozen=True)
class NodeRow:
    """One line of a graph's table: an input or a node.

    `grid` is the scale and zero point of its values, `bits` those of its weights and values (``w4a8``); both are empty
    in a float graph.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    inputs: tuple[str, ...] = ()
    grid: str = ""
    bits: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row for a program, without what a float graph does not have."""
        row = {"name": self.name, "op": self.op, "shape": list(self.shape), "inputs": list(self.inputs)}
        return row | ({"grid": self.grid, "bits": self.bits} if self.bits else {})


def graph_rows(graph: Graph) -> list[NodeRow]:
    """The rows of a float graph: its inputs, then its nodes in execution order."""
    entries = [NodeRow(name, "input", graph.shapes[name]) for name in graph.inputs]
    nodes = (
        NodeRow(node.name, type(node.op).__name__, graph.shapes[node.name], graph.activations(node))
        for node in graph.nodes
    )
    return [*entries, *nodes]


def format_table(title: str, rows: Sequence[NodeRow], outputs: Sequence[str]) -> str:
    """The rows as aligned text, under `title`. Names of a stranger's network cannot steer a terminal."""
    columns: Mapping[str, list[str]] = {
        "name": [row.name for row in rows],
        "op": [row.op for row in rows],
        "shape": ["x".join(map(str, row.shape)) for row in rows],
        "grid": [row.grid for row in rows],
        "bits": [row.bits for row in rows],
        "reads": [", ".join(row.inputs) for row in rows],
    }
    cells = [[head, *map(printable, texts)] for head, texts in columns.items() if any(texts)]
    widths = [max(map(len, column)) for column in cells]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in zip(*cells, strict=True)]
    return "\n".join([printable(title), *lines, f"outputs: {printable(', '.join(outputs))}"])
