"""What passes share: lookups over one graph, and the changes collected on the way to the next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node

__all__ = ["Edit"]

Array = npt.NDArray[np.float32]


class Edit:
    """Changes to `graph`, performed by `done`. Questions are always answered from the graph as it was."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.nodes}
        self.readers = graph.consumers()
        self._replaced: dict[str, tuple[Node, ...]] = {}
        self._stands_for: dict[str, str] = {}
        self._constants: dict[str, Array] = {}
        self._new: set[str] = set()

    def producer(self, value: str) -> Node | None:
        return self.nodes.get(value)

    def only_reader(self, value: str) -> Node | None:
        """The one node that reads `value`; None when there are others or the value leaves the graph."""
        readers = self.readers[value]
        return readers[0] if len(readers) == 1 and value not in self.graph.outputs else None

    def touched(self, node: Node) -> bool:
        """Already changed in this pass; wait for the next round."""
        return node.name in self._replaced

    def replace(self, node: Node, *new: Node) -> None:
        """Put `new` nodes in `node`'s place; the last one should carry its name unless `forward` is called too.

        The others get another name where the graph has a value of theirs.
        """
        names: dict[str, str] = {}
        for inner in new:
            if inner.name != node.name:
                names[inner.name] = self._free(inner.name)
                self._new.add(names[inner.name])
        self._replaced[node.name] = tuple(
            Node(names.get(n.name, n.name), n.op, tuple(names.get(name, name) for name in n.inputs)) for n in new
        )

    def _free(self, name: str) -> str:
        stem, count = name, 0
        while name in self.graph.shapes or name in self._constants or name in self._new:
            count += 1
            name = f"{stem}_{count}"
        return name

    def forward(self, value: str, to: str) -> None:
        """Whoever reads `value` reads `to` from now on."""
        self._stands_for[value] = to

    def constant(self, name: str, array: npt.NDArray[np.float64], node: Node) -> str:
        """Keep `array` for `node`, under `name` unless another node reads or another change writes that name."""
        stem, count = name, 0
        while (
            name in self._constants
            or name in self.nodes
            or name in self._new
            or any(r is not node for r in self.readers.get(name, []))
        ):
            count += 1
            name = f"{stem}_{count}"
        self._constants[name] = np.ascontiguousarray(array, dtype=np.float32)
        return name

    def done(self) -> Graph:
        """The graph after the changes, or the very same one when there were none."""
        if not (self._replaced or self._stands_for):
            return self.graph
        nodes = []
        for node in self.graph.nodes:
            for new in self._replaced.get(node.name, (node,)):
                nodes.append(Node(new.name, new.op, tuple(self._final(name) for name in new.inputs)))
        outputs = tuple(self._final(name) for name in self.graph.outputs)
        pool = dict(self.graph.constants) | self._constants
        bare = Graph(self.graph.name, self.graph.inputs, outputs, tuple(nodes), pool, self.graph.input_shapes)
        return bare.with_nodes(nodes)

    def _final(self, name: str) -> str:
        while name in self._stands_for:
            name = self._stands_for[name]
        return name
