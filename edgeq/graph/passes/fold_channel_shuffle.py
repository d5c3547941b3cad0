"""Channel shuffles become an order of filters: the layers around them take the order, and nothing is moved.

ShuffleNet's blocks split, join and shuffle channels. Followed channel by channel, all of that is a selection: every
value that a layer reads is some channels of some layers' outputs. Which filter comes where costs nothing in the layers
that write those channels, nor in those that read them. So each layer writes the channels that are read together side by
side, and each reader gets its channels by slices and one concatenation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    AvgPool2d,
    Concat,
    Conv2d,
    GlobalAvgPool,
    Linear,
    MaxPool2d,
    Permute,
    Reshape,
    Resize2d,
    Slice,
    Unary,
)
from edgeq.graph.passes._edit import Edit

__all__ = ["fold_channel_shuffle"]

Indices = npt.NDArray[np.int64]
Channels = list[tuple[str, int]]
"""(value, channel of it) for each channel of a value."""

Run = tuple[str, int, int]
"""(value, start, stop): channels side by side."""

PER_CHANNEL = (Unary, MaxPool2d, AvgPool2d, GlobalAvgPool, Resize2d)
"""Ops that treat every channel alike."""

OP = 256
"""What an op costs beside what it copies, in values copied."""


def fold_channel_shuffle(graph: Graph) -> Graph:
    if not any(len(op.order) > 4 for op in (node.op for node in graph.nodes) if isinstance(op, Permute)):
        return graph
    changed: Graph | None = graph
    while changed is not None:
        graph = changed
        changed = next((new for region in _regions(graph) if (new := _route(graph, region)) is not None), None)
    return graph


@dataclass
class _Region:
    """Joins, slices and shuffles that hand channels to each other.

    `values`: the channels of each value they make; `sources`: the values that those are channels of; `members`: their
    nodes; `cost`: what they cost as they are.
    """

    values: dict[str, Channels] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    shuffles: int = 0
    cost: int = 0


@dataclass(frozen=True)
class _Shuffle:
    """`channels` of the value `source`, in a new order."""

    source: str
    channels: tuple[int, ...]
    members: tuple[str, ...]


def _regions(graph: Graph) -> list[_Region]:
    """The regions of the graph that hold a shuffle."""
    of: dict[str, _Region] = {}
    shuffles = _shuffles(graph)
    for node in graph.nodes:
        shuffle = shuffles.get(node.name)
        if shuffle is None and not _selects(graph, node):
            continue
        inputs = node.inputs if shuffle is None else (shuffle.source,)
        region = _merged(of, inputs)
        parts = [region.values.get(name) or _own(graph, name) for name in inputs]
        region.sources += [name for name in dict.fromkeys(inputs) if name not in of]
        region.members.update((node.name,) if shuffle is None else shuffle.members)
        region.cost += OP * (1 if shuffle is None else len(shuffle.members)) + math.prod(graph.shapes[node.name])
        if shuffle is not None:
            region.values[node.name] = [parts[0][i] for i in shuffle.channels]
            region.shuffles += 1
        elif isinstance(node.op, Slice):
            region.values[node.name] = parts[0][node.op.start[1] : node.op.stop[1] : node.op.step[1]]
        else:
            region.values[node.name] = list(itertools.chain(*parts))
        of.update(dict.fromkeys((*inputs, node.name), region))
    return [region for region in {id(r): r for r in of.values()}.values() if region.shuffles]


def _merged(of: dict[str, _Region], names: Sequence[str]) -> _Region:
    """One region for all of `names`; those they had are joined to it."""
    first, *others = {id(of[n]): of[n] for n in names if n in of}.values() or [_Region()]
    for other in others:
        first.values.update(other.values)
        first.sources += other.sources
        first.members |= other.members
        first.shuffles += other.shuffles
        first.cost += other.cost
        of.update((name, first) for name, region in list(of.items()) if region is other)
    return first


def _own(graph: Graph, name: str) -> Channels:
    return [(name, channel) for channel in range(graph.shapes[name][1])]


def _selects(graph: Graph, node: Node) -> bool:
    """A join of channels, or a slice of nothing but channels."""
    shape = graph.shapes[node.name]
    if isinstance(node.op, Slice):
        return len(shape) == 4 and shape[2:] == graph.shapes[node.inputs[0]][2:]
    return isinstance(node.op, Concat) and len(shape) == 4 and node.op.axis == 1


def _shuffles(graph: Graph) -> dict[str, _Shuffle]:
    """The shuffles, by the name of the reshape that ends each."""
    found = {}
    for last in graph.of_kind(Reshape):
        moved = graph.node(last.inputs[0])
        split = graph.node(moved.inputs[0]) if moved is not None else None
        if moved is None or split is None or not isinstance(moved.op, Permute) or not isinstance(split.op, Reshape):
            continue
        shape, apart, order = graph.shapes[split.inputs[0]], graph.shapes[split.name], moved.op.order
        whole = len(shape) == 4 and graph.shapes[last.name] == shape and apart[-2:] == shape[2:]
        inner = all(
            len(graph.consumers()[node.name]) == 1 and node.name not in graph.outputs for node in (split, moved)
        )
        if whole and inner and order[-2:] == (len(apart) - 2, len(apart) - 1):
            numbers = np.arange(shape[1]).reshape(apart[1:-2]).transpose([axis - 1 for axis in order[1:-2]])
            channels = tuple(int(i) for i in numbers.reshape(-1))
            found[last.name] = _Shuffle(split.inputs[0], channels, (split.name, moved.name, last.name))
    return found


def _route(graph: Graph, region: _Region) -> Graph | None:
    """The graph with every value of `region` that is read elsewhere made of slices; None where that costs more."""
    layers = _Layers(graph, region)
    exits: dict[str, Channels] = {}
    for name in (*region.sources, *region.values):
        if name in graph.outputs or any(reader.name not in region.members for reader in graph.consumers()[name]):
            exits[name] = region.values.get(name) or _own(graph, name)
    free = {name for name, c in exits.items() if len(set(c)) == len(c) and layers.absorb(name, np.arange(len(c)))}
    places: dict[str, Indices] = {}  # of each channel of a source: where it is written
    for source in region.sources:
        order = np.arange(graph.shapes[source][1])
        if (source not in exits or source in free) and layers.reorder(source, order):
            order = np.array(_order(exits, free, source, len(order)))
            layers.reorder(source, order, change=True)
        places[source] = np.argsort(order)
    edit, slices, cost = Edit(graph), dict[Run, str](), 0
    for name, channels in exits.items():
        written = [(source, int(places[source][channel])) for source, channel in channels]
        order = np.arange(len(written))
        if name in free:
            rank = {source: i for i, source in enumerate(region.sources)}
            order = np.lexsort(([place for _, place in written], [rank[source] for source, _ in written]))
            layers.absorb(name, order, change=True)
        node = graph.node(name)
        if name in region.values and node is not None:
            new = _gather(graph, name, list(_runs([written[i] for i in order])), slices)
            cost += sum(_cost(graph, name, made) for made in new)
            edit.replace(node, *new)
    if cost >= region.cost:
        return None
    layers.write(edit)
    return edit.done()


def _cost(graph: Graph, name: str, node: Node) -> int:
    _, channels, height, width = graph.shapes[name]
    count = node.op.stop[1] - node.op.start[1] if isinstance(node.op, Slice) else channels
    return OP + count * height * width


def _order(exits: dict[str, Channels], free: set[str], source: str, size: int) -> list[int]:
    """The channels of `source` sorted by who reads them, and as read where a reader has an order of its own."""
    keys: list[list[int]] = [[] for _ in range(size)]
    places = [0] * size
    for number, (name, channels) in enumerate(exits.items()):
        for place, (value, channel) in enumerate(channels):
            if value == source:
                keys[channel].append(number)
                places[channel] = places[channel] if name in free else place
    return sorted(range(len(keys)), key=lambda channel: (keys[channel], places[channel]))


def _runs(channels: Channels) -> Iterator[Run]:
    """Channels in order as runs of neighbours."""
    start = 0
    for end in range(1, len(channels) + 1):
        value, first = channels[start]
        if end == len(channels) or channels[end] != (value, first + end - start):
            yield value, first, first + end - start
            start = end


def _gather(graph: Graph, name: str, runs: list[Run], slices: dict[Run, str]) -> list[Node]:
    """Nodes whose last, `name`, joins `runs`. `slices` are those that exist."""
    new: list[Node] = []
    parts: list[str] = []
    for place, run in enumerate(runs):
        value, start, stop = run
        shape = graph.shapes[value]
        if run not in slices and stop - start == shape[1]:
            slices[run] = value
        elif run not in slices:
            slices[run] = name if len(runs) == 1 else f"{name}.part{place}"
            op = Slice((0, start, 0, 0), (shape[0], stop, *shape[2:]), (1, 1, 1, 1))
            new.append(Node(slices[run], op, (value,)))
        parts.append(slices[run])
    if not new or new[-1].name != name:
        new.append(Node(name, Concat(1), tuple(parts)))
    return new


class _Layers:
    """Orders of channels that layers are given: of what they read (`inputs`) and of what they write (`outputs`)."""

    def __init__(self, graph: Graph, region: _Region) -> None:
        self.graph = graph
        self.region = region
        self.inputs: dict[str, Indices] = {}
        self.outputs: dict[str, Indices] = {}

    def absorb(self, name: str, order: Indices, *, change: bool = False, behind: bool = False) -> bool:
        """Whether all that reads `name` can have its channels in `order`; `change` gives them that order.

        The region's own nodes are left out, unless `name` lies `behind` a reader.
        """
        if name in self.graph.outputs:
            return False
        readers = self.graph.consumers()[name]
        others = [reader for reader in readers if behind or reader.name not in self.region.members]
        return all(self._reads(reader, name, order, change) for reader in others)

    def _reads(self, node: Node, name: str, order: Indices, change: bool) -> bool:
        graph, shape = self.graph, self.graph.shapes[name]
        if isinstance(node.op, Reshape) and graph.shapes[node.name][1:] == (math.prod(shape[1:]),):
            pixels = math.prod(shape[2:])
            flat = (order[:, None] * pixels + np.arange(pixels)).reshape(-1)
            layers = [reader for reader in graph.consumers()[node.name] if isinstance(reader.op, Linear)]
            fits = node.name not in graph.outputs and len(layers) == len(graph.consumers()[node.name])
            return fits and all(self._takes(layer, flat, change) for layer in layers)
        if isinstance(node.op, PER_CHANNEL):
            return self.absorb(node.name, order, change=change, behind=True)
        if not isinstance(node.op, Conv2d) or not self._constant(node):
            return False
        if node.op.groups == 1:
            return self._takes(node, order, change)
        if not self._is_depthwise(node) or not self.absorb(node.name, order, change=change, behind=True):
            return False
        if change:
            self.outputs[node.name] = order
        return True

    def _takes(self, node: Node, order: Indices, change: bool) -> bool:
        if change:
            self.inputs[node.name] = order
        return self._constant(node)

    def reorder(self, name: str, order: Indices, *, change: bool = False) -> bool:
        """Whether the layer that writes `name` can write it in any order; `change` gives it `order`."""
        node = self.graph.node(name)
        if node is None:
            return False
        if isinstance(node.op, PER_CHANNEL):
            return self._alone(node) and self.reorder(node.inputs[0], order, change=change)
        if not isinstance(node.op, Conv2d) or not self._constant(node):
            return False
        if node.op.groups > 1:
            above = self._is_depthwise(node) and self._alone(node)
            if not above or not self.reorder(node.inputs[0], order, change=change):
                return False
        if change:
            self.outputs[name] = order
        return True

    def _alone(self, node: Node) -> bool:
        """Nobody but `node` reads what it reads."""
        value = node.inputs[0]
        return self.graph.consumers()[value] == (node,) and value not in self.graph.outputs

    def _constant(self, node: Node) -> bool:
        return all(name in self.graph.constants for name in node.inputs[1:])

    def _is_depthwise(self, node: Node) -> bool:
        weight = self.graph.shapes[node.inputs[1]]
        return isinstance(node.op, Conv2d) and node.op.depthwise(weight) and weight[0] == node.op.groups

    def write(self, edit: Edit) -> None:
        """Rearrange the weights of every layer that was given an order."""
        for name in dict.fromkeys((*self.inputs, *self.outputs)):
            node = edit.nodes[name]
            weight, *bias = (edit.graph.constants[c].astype(np.float64) for c in node.inputs[1:])
            if name in self.inputs:
                weight = weight[:, self.inputs[name]]
            if name in self.outputs:
                weight, bias = weight[self.outputs[name]], [b[self.outputs[name]] for b in bias]
            names = [edit.constant(c, a, node) for c, a in zip(node.inputs[1:], (weight, *bias), strict=True)]
            edit.replace(node, Node(name, node.op, (node.inputs[0], *names)))
