"""Apply a scheme to a graph: how many bits each of its weights and activations gets.

`weight_bits` gives the bits of every weight, `value_widths` 8 or 16 for every activation, and `activation_bits` says
which of the 8-bit ones have fewer.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from edgeq.errors import TargetLimitError, UnknownNameError
from edgeq.graph.ir import Graph, Node
from edgeq.quant.scheme import LayerBits, Scheme

__all__ = ["activation_bits", "decide_widths", "match_layer_bits", "value_widths", "weight_bits"]


def weight_bits(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """Bits of every weight of an optimised `graph`, by the constant's name. Raises as `match_layer_bits` does."""
    bits = {node.inputs[1]: scheme.weight_bits for node in graph.layers()}
    if scheme.edge_bits is not None:
        for node in (*_first(graph), *_last(graph)):
            bits[node.inputs[1]] = max(scheme.edge_bits, scheme.weight_bits)
    requested = match_layer_bits(graph, scheme)
    return bits | {node.inputs[1]: requested[node.name].weights for node in graph.layers() if node.name in requested}


def match_layer_bits(graph: Graph, scheme: Scheme) -> dict[str, LayerBits]:
    """The entry of `Scheme.layers` for each layer that one matches, by the layer's name.

    A pattern that matches a module's path means all layers in it. Raises `ConfigError` for one that matches no layer.
    """
    names = [node.name for node in graph.layers()]
    matches: dict[str, LayerBits] = {}
    for one in scheme.layers:
        matched = [name for name in names if any(fnmatchcase(path, one.pattern) for path in _paths(name))]
        if not matched:
            close = difflib.get_close_matches(one.pattern.rstrip(".*"), names, n=1, cutoff=0.3)
            raise UnknownNameError(
                f"layer bits for {one.pattern!r}",
                why="no convolution or linear layer is called that",
                hint=f"the nearest is {close[0]!r}" if close else "edgeq build --plan --json lists the layers",
            )
        matches |= dict.fromkeys(matched, one)
    return matches


def _paths(name: str) -> list[str]:
    """For ``a.b.c``: ``a.b.c``, ``a.b`` and ``a``, the layer and the modules that contain it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def value_widths(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """8 or 16 for every activation of a graph with requantizations in it (`apply_mixed_precision`).

    Raises `UnsupportedError` where 8-bit and 16-bit values meet without one.
    """
    if not scheme.mixed:
        names = (name for name in graph.shapes if name not in graph.constants)
        return dict.fromkeys(names, max(8, scheme.activation_bits))
    widths = decide_widths(graph, scheme)
    for node in graph.nodes:
        if node.op.output_bits is None and any(widths[n] != widths[node.name] for n in graph.activations(node)):
            raise TargetLimitError(
                "8-bit and 16-bit values meet",
                where=node.name,
                hint="edgeq.quant.mixed_precision.apply_mixed_precision comes before calibration",
            )
    return widths


def decide_widths(graph: Graph, scheme: Scheme) -> dict[str, int]:
    """8 or 16 for every activation of an optimised `graph`, where `scheme` mixes them.

    A layer has the bits that `scheme` gives it. Any other op has 16 bits where something it reads has 16, so that
    nothing is lost on the way. It also has 16 where it combines values and all its readers have 16, so that they do not
    read what it rounded to 8. A network input has 16 where all its readers have, or as `Scheme.ends` say.
    """
    requested, readers = match_layer_bits(graph, scheme), graph.consumers()
    wide: set[str] = set()
    fixed = {node.name: node.op.output_bits == 16 for node in graph.nodes if node.op.output_bits is not None}
    for node in graph.layers():
        bits = requested[node.name].activations if node.name in requested else scheme.activation_bits
        fixed[node.name] = bits == 16
    if scheme.ends[0] is not None:
        fixed |= dict.fromkeys(graph.inputs, scheme.ends[0] == 16)

    def takes(node: Node) -> bool:
        """Whether `node` reads in 16 bits, or hands on to nothing but ops that do."""
        if node.op.output_bits is not None:
            return node.op.output_bits == 8
        return node.name in wide or (node.op.keeps_bits and all_readers_take(node.name))

    def all_readers_take(name: str) -> bool:
        return bool(readers[name]) and all(takes(node) for node in readers[name])

    wide |= {name for name, is_wide in fixed.items() if is_wide}
    before = -1
    while len(wide) != before:
        before = len(wide)
        wide |= {name for name in graph.inputs if name not in fixed and all_readers_take(name)}
        for node in graph.nodes:
            if node.name not in fixed and wide.intersection(graph.activations(node)):
                wide.add(node.name)
        for node in reversed(graph.nodes):
            if node.name not in fixed and node.op.gains_bits and all_readers_take(node.name):
                wide.add(node.name)
    return {name: 16 if name in wide else 8 for name in graph.shapes if name not in graph.constants}


def activation_bits(
    graph: Graph, groups: Mapping[str, Sequence[str]], scheme: Scheme, widths: Mapping[str, int]
) -> dict[str, int]:
    """Bits of every group of values that share a quantization, by the group's name; `widths` are 8 or 16 of every value
    (`value_widths`).

    Few bits are for what convolutions and linears multiply and for what activation functions make. Eight remain for

    - the network's inputs and outputs;
    - branches that end in a sum, before the activation that follows it: both conventions round the sum once;
    - averages over the whole image, which neither convention rounds;
    - what the last layer reads, unless `Scheme.edge_bits` says that no layer is special.

    16 stay 16. A layer of `Scheme.layers` decides for what it reads, the first three kept. Raises `UnsupportedError`
    where layers that read one group are given different bits.
    """
    requested = _requested_of_groups(graph, groups, scheme)
    if not (requested or scheme.activation_bits < 8):
        return {name: widths[name] for name in groups}
    few = min(scheme.activation_bits, 8)
    fixed = {*graph.inputs, *graph.outputs, *(node.name for node in graph.nodes if node.op.averages_map)}
    wide = fixed
    if scheme.edge_bits is not None:
        wide = wide | {node.inputs[0] for node in _last(graph)}
    multiplied = {node.inputs[0] for node in graph.layers()}
    activated = {node.name for node in graph.nodes if node.op.activation_function or node.op.fused_activation}
    bits = {
        name: few if {*members} & (multiplied | activated) and not {*members} & wide else 8
        for name, members in groups.items()
    }
    bits |= {name: count for name, count in requested.items() if not {*groups[name]} & fixed}
    return bits | {name: 16 for name in groups if widths[name] == 16}


def _requested_of_groups(graph: Graph, groups: Mapping[str, Sequence[str]], scheme: Scheme) -> dict[str, int]:
    """Bits that layers of `Scheme.layers` want of the groups they read, by the group's name."""
    requested = match_layer_bits(graph, scheme)
    group_bits: dict[str, int] = {}
    for group, members in groups.items():
        readers = [node.name for node in graph.layers() if node.inputs[0] in members]
        bits = {name: requested[name].activations if name in requested else scheme.activation_bits for name in readers}
        if len(set(bits.values())) > 1:
            one, other = (next(n for n, b in bits.items() if b == value) for value in sorted(set(bits.values()))[:2])
            raise TargetLimitError(
                f"{bits[one]}-bit and {bits[other]}-bit activations for one value",
                where=group,
                why=f"{one} and {other} read the same numbers",
                hint="give these layers the same aM",
            )
        if any(name in requested for name in readers):
            group_bits[group] = bits[readers[0]]
    return group_bits


def _first(graph: Graph) -> list[Node]:
    """Layers that see the network's input before any other layer did."""
    raw = set(graph.inputs)
    layers = []
    for node in graph.nodes:
        if not raw & set(node.inputs):
            continue
        if node.op.is_layer:
            layers.append(node)
        else:
            raw.add(node.name)
    return layers


def _last(graph: Graph) -> list[Node]:
    """Layers whose result reaches an output through no other layer."""
    reaches_output = set(graph.outputs)
    layers = []
    for node in reversed(graph.nodes):
        if node.name not in reaches_output:
            continue
        if node.op.is_layer:
            layers.append(node)
        else:
            reaches_output |= set(graph.activations(node))
    return layers
