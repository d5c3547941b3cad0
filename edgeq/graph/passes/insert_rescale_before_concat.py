"""Rescale inputs of a concat or maximum whose quantization is fixed, so that all inputs can share one.

All that a Concat joins, or a Maximum compares, has one quantization. A sigmoid's ends at 1: whatever it were joined
with would end there too.
Such a value is put on the joint grid first, by a leaky ReLU of slope 1: the identity, a table or a multiplication in
every runtime.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Concat, LeakyReLU, Maximum
from edgeq.graph.passes._edit import Edit

__all__ = ["insert_rescale_before_concat"]

Demand = tuple[float, int] | str | None


def insert_rescale_before_concat(graph: Graph) -> Graph:
    edit = Edit(graph)
    demands: dict[str, Demand] = {name: name for name in graph.inputs}
    for node in graph.nodes:
        demanded = [demands[name] for name in graph.activations(node)]
        demands[node.name] = demanded[0] if node.op.shares_quantization else node.op.fixed_grid()
        if not isinstance(node.op, (Concat, Maximum)) or len(set(demanded)) == 1:
            continue
        demands[node.name] = None
        moved = {
            name: f"{node.name}.grid{place}" for place, name in enumerate(node.inputs) if demanded[place] is not None
        }
        copies = [Node(copy, LeakyReLU(1.0), (name,)) for name, copy in moved.items()]
        edit.replace(node, *copies, replace(node, inputs=tuple(moved.get(name, name) for name in node.inputs)))
    return edit.done()
