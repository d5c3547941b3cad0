"""Graph, Node, Value: a static single-assignment graph of float ops, as plain immutable data.

A node has one output, named after the node; nodes are in execution order. Constants (weights, batch-norm statistics)
are numpy arrays that nodes name among their inputs. Editing a graph means building another one: `Graph.replace`,
`Graph.with_nodes`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.ops import Op, Shape, op_to_json
from edgeq.graph.printing import NodeRow, format_table, graph_rows

__all__ = ["Graph", "Node", "with_op"]

_K = TypeVar("_K", bound=Op)


@dataclass(frozen=True)
class Node:
    """One op applied to named values. `name` is the module path it came from and also names its output."""

    name: str
    op: Op
    inputs: tuple[str, ...]


def with_op(nodes: Iterable[Node], kind: type[_K]) -> Iterator[tuple[Node, _K]]:
    """The nodes whose op is a `kind`, each with its op."""
    return ((node, node.op) for node in nodes if isinstance(node.op, kind))


@dataclass(frozen=True)
class Graph:
    """A network as data: logical NCHW, batch 1 shapes, float32 constants.

    `shapes` holds the shape of every value (inputs, node outputs, constants). Checked on construction: names are
    unique, inputs are defined before use, every shape is what the op infers; a graph that exists is well formed.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[np.float32]]
    input_shapes: Mapping[str, Shape]
    shapes: Mapping[str, Shape] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {name: tuple(self.input_shapes[name]) for name in self.inputs}
        for name, array in self.constants.items():
            shapes[name] = tuple(array.shape)
        if len(shapes) != len(self.inputs) + len(self.constants):
            raise UnsupportedError("a graph input and a constant share a name", where=self.name)
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in shapes]
            if missing or node.name in shapes:
                raise UnsupportedError(
                    f"graph is not in single-assignment order: {', '.join(missing) or node.name}", where=node.name
                )
            try:
                shapes[node.name] = node.op.infer([shapes[name] for name in node.inputs])
            except UnsupportedError as error:
                raise UnsupportedError(error.what, where=node.name, why=error.why, hint=error.hint) from error
        lost = [name for name in self.outputs if name not in shapes]
        if lost:
            raise UnsupportedError(f"graph output {lost[0]} is made by no node", where=self.name)
        object.__setattr__(self, "shapes", shapes)

    def replace(self, **changes: Any) -> Graph:
        """A graph with these fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    def with_nodes(
        self, nodes: Iterable[Node], constants: Mapping[str, npt.NDArray[np.float32]] | None = None
    ) -> Graph:
        """A graph of these nodes, without the nodes and constants that no output needs any more."""
        pool = dict(self.constants) | dict(constants or {})
        kept: list[Node] = []
        needed = set(self.outputs)
        for node in reversed(list(nodes)):
            if node.name in needed:
                kept.append(node)
                needed.update(node.inputs)
        return self.replace(nodes=tuple(reversed(kept)), constants={k: v for k, v in pool.items() if k in needed})

    def node(self, name: str) -> Node | None:
        """The node that makes the value `name`; None for graph inputs and constants."""
        return self._makers.get(name)

    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Nodes reading each value, in order. A value that is a graph output may have none."""
        return self._readers

    @functools.cached_property
    def _makers(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def _readers(self) -> Mapping[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of `node` that are not constants."""
        return tuple(name for name in node.inputs if name not in self.constants)

    def of_kind(self, *kinds: type[Op]) -> Iterator[Node]:
        return (node for node in self.nodes if isinstance(node.op, kinds))

    def layers(self) -> Iterator[Node]:
        """The convolutions and linear layers, in order."""
        return (node for node in self.nodes if node.op.is_layer)

    def macs(self) -> int:
        """Multiply-accumulates of one forward pass at batch 1."""
        return sum(n.op.macs([self.shapes[i] for i in n.inputs], self.shapes[n.name]) for n in self.nodes)

    def parameters(self) -> int:
        return sum(int(array.size) for array in self.constants.values())

    def rows(self) -> list[NodeRow]:
        """The table that `print` shows, as data."""
        return graph_rows(self)

    def __str__(self) -> str:
        title = f"{self.name}: {self.parameters():,} parameters, {self.macs():,} multiply-accumulates"
        return format_table(title, self.rows(), self.outputs)

    def digest(self) -> str:
        """SHA-256 over structure and constants; equal graphs have equal digests."""
        structure = {
            "inputs": {name: list(self.input_shapes[name]) for name in self.inputs},
            "outputs": list(self.outputs),
            "nodes": [[n.name, op_to_json(n.op), list(n.inputs)] for n in self.nodes],
        }
        total = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
        for name in sorted(self.constants):
            total.update(name.encode() + np.ascontiguousarray(self.constants[name]).tobytes())
        return total.hexdigest()
