"""Constants of its own for every layer.

A module called twice reads one weight twice. Its integers cannot be shared: the bias is in units of each call's own
input, corrections and fine-tuning move each call apart, and both runtimes store them per layer anyway.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.graph.ir import Graph

__all__ = ["untie_weights"]


def untie_weights(graph: Graph) -> Graph:
    constants, taken = dict(graph.constants), set[str]()
    nodes = []
    for node in graph.nodes:
        inputs = list(node.inputs)
        for place, name in enumerate(node.inputs):
            if not node.op.is_layer or name not in graph.constants:
                continue
            if name in taken:
                inputs[place] = f"{node.name}/{name}"
                constants[inputs[place]] = graph.constants[name]
            taken.add(name)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return graph if len(constants) == len(graph.constants) else graph.replace(nodes=tuple(nodes), constants=constants)
