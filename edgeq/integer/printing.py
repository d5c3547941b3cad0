"""An integer graph as a table of its nodes, with grids and bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeq.graph.ir import Node
from edgeq.graph.printing import NodeRow

if TYPE_CHECKING:
    from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = ["integer_rows"]


def integer_rows(graph: IntegerGraph) -> list[NodeRow]:
    """The rows of an integer graph: its inputs, then its nodes in execution order."""
    grids, shapes = graph.quantizations, graph.shapes
    entries = [
        NodeRow(name, "input", shapes[name], (), _grid(grids[name]), f"a{_bits(grids[name])}") for name in graph.inputs
    ]
    nodes = (
        NodeRow(
            node.name,
            type(node.op).__name__,
            shapes[node.name],
            graph.activations(node),
            _grid(grids[node.name]),
            _weights(graph, node) + f"a{_bits(grids[node.name])}",
        )
        for node in graph.nodes
    )
    return [*entries, *nodes]


def _weights(graph: IntegerGraph, node: Node) -> str:
    """``w`` and the bits of a layer's weights: of its constants, the one whose values are int8."""
    kinds = [graph.quantizations[name] for name in node.inputs if name in graph.constants]
    return next((f"w{_bits(grid)}" for grid in kinds if grid.dtype == "int8"), "")


def _grid(grid: Quantization) -> str:
    return f"{float(grid.scale):.6g}, zero {int(grid.zero_point)}"


def _bits(grid: Quantization) -> int:
    return grid.bits or int(grid.dtype.removeprefix("int"))
