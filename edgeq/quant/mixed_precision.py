"""Which values of a network have 16 bits where others have 8: layers as told, the ops between them as their company.

TFLite's kernels read and make one type, so a layer of 16 bits reads 16 and makes 16.
"""

from __future__ import annotations

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.passes.insert_requantize import part_widths
from edgeq.quant.bits import Scheme, asked_layers

__all__ = ["parted", "value_widths"]


def parted(graph: Graph, scheme: Scheme) -> Graph:
    """An optimised `graph` with requantizations between its 8-bit and its 16-bit ops; itself where there are not both.

    Raises `ConfigError` for a pattern of `scheme` that matches no layer.
    """
    return part_widths(graph, _decided(graph, scheme), scheme.ends[1]) if scheme.mixed else graph


def value_widths(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """8 or 16 for every activation of a `parted` graph. Raises `UnsupportedError` for one that is not."""
    if not scheme.mixed:
        names = (name for name in graph.shapes if name not in graph.constants)
        return dict.fromkeys(names, max(8, scheme.activation_bits))
    widths = _decided(graph, scheme)
    for node in graph.nodes:
        if node.op.output_bits is None and any(widths[n] != widths[node.name] for n in graph.activations(node)):
            raise UnsupportedError(
                "8-bit and 16-bit values meet",
                where=node.name,
                hint="edgeq.quant.mixed_precision.parted comes before calibration",
            )
    return widths


def _decided(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """Layers have what `scheme` says. Any other op has 16 bits where something it reads has, so that nothing is lost on
    the way; and where it combines values and all that read it have, so that its own rounding is not what they read. A
    network input has 16 where all that read it have, or as `Scheme.ends` say.
    """
    asked, readers = asked_layers(graph, scheme), graph.consumers()
    wide: set[str] = set()
    fixed = {node.name: node.op.output_bits == 16 for node in graph.nodes if node.op.output_bits is not None}
    for node in graph.layers():
        bits = asked[node.name].activations if node.name in asked else scheme.activation_bits
        fixed[node.name] = bits == 16
    if scheme.ends[0] is not None:
        fixed |= dict.fromkeys(graph.inputs, scheme.ends[0] == 16)

    def takes(node: Node) -> bool:
        """Whether `node` reads in 16 bits, or hands on to nothing but ops that do."""
        if node.op.output_bits is not None:
            return node.op.output_bits == 8
        return node.name in wide or (node.op.keeps_bits and wanted(node.name))

    def wanted(name: str) -> bool:
        return bool(readers[name]) and all(takes(node) for node in readers[name])

    wide |= {name for name, is_wide in fixed.items() if is_wide}
    before = -1
    while len(wide) != before:
        before = len(wide)
        wide |= {name for name in graph.inputs if name not in fixed and wanted(name)}
        for node in graph.nodes:
            if node.name not in fixed and wide.intersection(graph.activations(node)):
                wide.add(node.name)
        for node in reversed(graph.nodes):
            if node.name not in fixed and node.op.gains_bits and wanted(node.name):
                wide.add(node.name)
    return {name: 16 if name in wide else 8 for name in graph.shapes if name not in graph.constants}
