"""Ops that do not care in which order dimensions lie work in the order of the layers around them.

Networks with channels last permute around every convolution, ``(N, H, W, C)`` to ``(N, C, H, W)`` and back, and those
of one dimension reshape ``(N, C, L)`` to ``(N, C, 1, L)``. What stands between two convolutions (sums, products,
functions of one value, slices, joins, pads) is often indifferent. Such ops that hang together are put into the order in
which the fewest values are moved at their border.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Affine, BatchNorm, Concat, Op, Pad, Permute, Reshape, Shape, Slice

__all__ = ["align_layouts"]

Cost = npt.NDArray[np.int64]
Move = tuple[int | None, ...]
"""Where each dimension comes from; None is a new one of size 1, and dimensions of size 1 may be left out."""


def align_layouts(graph: Graph) -> Graph:
    for region in _regions(graph):
        plan = _Plan(graph, region)
        candidates = {move for move in plan.candidates() if plan.possible(move)}
        best = min(sorted(candidates, key=str), key=plan.cost, default=None)
        if best is not None and plan.cost(best) < plan.cost(None):
            return plan.moved(best)
    return graph


def _indifferent(op: Op) -> bool:
    return op.elementwise or isinstance(op, (Affine, BatchNorm, Concat, Pad, Slice))


def _regions(graph: Graph) -> Iterator[set[str]]:
    """Names of nodes that are indifferent and read each other."""
    of: dict[str, set[str]] = {}
    for node in graph.nodes:
        if not _indifferent(node.op):
            continue
        region = {node.name}
        for name in node.inputs:
            if name in of and of[name] is not region:
                region |= of[name]
        for name in region:
            of[name] = region
    yield from {id(region): region for region in of.values()}.values()


def _move(graph: Graph, node: Node | None) -> Move | None:
    """The move that `node` is; None for another node."""
    if node is None or not isinstance(node.op, (Permute, Reshape)):
        return None
    if isinstance(node.op, Permute):
        return tuple(node.op.order)
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.name]
    whole = [axis for axis, size in enumerate(before) if axis == 0 or size > 1]
    sizes = [size for axis, size in enumerate(after) if axis == 0 or size > 1]
    if [before[axis] for axis in whole] != sizes:
        return None
    sources = iter(whole)
    return tuple(next(sources) if axis == 0 or size > 1 else None for axis, size in enumerate(after))


def _then(first: Move, second: Move) -> Move:
    return tuple(None if axis is None else first[axis] for axis in second)


def _inverse(move: Move, rank: int) -> Move:
    return tuple(move.index(axis) if axis in move else None for axis in range(rank))


def _shape(shape: Shape, move: Move) -> Shape:
    return tuple(1 if axis is None else shape[axis] for axis in move)


def _cost(shape: Shape, move: Move) -> Cost:
    """Values moved by a file in torch's order, plus those moved by a file that has channels last in four dimensions;
    and whether there is a move at all."""
    whole = [axis for axis in move if axis is not None and (axis == 0 or shape[axis] > 1)]
    last = [axis for axis in _channels_last(len(shape)) if axis in whole]
    moved = [axis for axis in (move[place] for place in _channels_last(len(move))) if axis in whole]
    turns = (whole != sorted(whole)) + (moved != last)
    return np.array([math.prod(shape) * turns, turns > 0 or _shape(shape, move) != shape])


def _channels_last(rank: int) -> Sequence[int]:
    return (0, 2, 3, 1) if rank == 4 else range(rank)


@dataclass
class _Plan:
    """What a move of all values of `region` would cost, and the graph after it."""

    graph: Graph
    region: set[str]
    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, tuple[str, Move]] = field(default_factory=dict)
    """Values read from outside: what each is a move of."""
    outputs: dict[str, tuple[str, Move]] = field(default_factory=dict)
    """Last values of chains of moves that read the region: what each is a move of."""
    between: set[str] = field(default_factory=set)
    """Moves that nothing reads but the next of such a chain."""
    leaving: set[str] = field(default_factory=set)
    """Values of the region that something else reads, or that are outputs."""

    def __post_init__(self) -> None:
        graph = self.graph
        self.nodes = [node for node in graph.nodes if node.name in self.region]
        for node in self.nodes:
            for name in graph.activations(node):
                if name not in self.region:
                    self.inputs[name] = self._source(name)
            if node.name in graph.outputs:
                self.leaving.add(node.name)
            for reader in graph.consumers()[node.name]:
                move = _move(graph, reader)
                if reader.name not in self.region and move is not None:
                    self._follow(node.name, reader, move)
                elif reader.name not in self.region:
                    self.leaving.add(node.name)

    def _source(self, name: str) -> tuple[str, Move]:
        """The value that `name` is a move of: itself where that would be one of the region."""
        itself: Move = tuple(range(len(self.graph.shapes[name])))
        source, whole = name, itself
        while (node := self.graph.node(source)) is not None and (move := _move(self.graph, node)) is not None:
            source, whole = node.inputs[0], _then(move, whole)
            if source in self.region:
                return name, itself
        return source, whole

    def _follow(self, value: str, reader: Node, move: Move) -> None:
        """Note the end of the chain of moves that starts with `reader`."""
        while reader.name not in self.graph.outputs:
            readers = self.graph.consumers()[reader.name]
            after = _move(self.graph, readers[0]) if len(readers) == 1 else None
            if after is None:
                break
            self.between.add(reader.name)
            reader, move = readers[0], _then(move, after)
        self.outputs[reader.name] = value, move

    def candidates(self) -> Iterator[Move]:
        """Moves that would make one at the border unnecessary."""
        for source, move in self.inputs.values():
            yield _inverse(move, len(self.graph.shapes[source]))
        yield from (move for _, move in self.outputs.values())

    def possible(self, move: Move) -> bool:
        shapes = [self.graph.shapes[name] for name in (*self.inputs, *self.region)]
        rank = len(shapes[0])
        if any(len(shape) != rank for shape in shapes) or move[0] != 0:
            return False
        left_out = [axis for axis in range(rank) if axis not in move]
        if any(shape[axis] > 1 for shape in shapes for axis in left_out):
            return False
        fixed = any(isinstance(node.op, (Affine, BatchNorm)) for node in self.nodes)
        joined = {node.op.axis for node in self.nodes if isinstance(node.op, Concat)}
        return (not fixed or (len(move) > 1 and move[1] == 1)) and not joined & set(left_out)

    def cost(self, move: Move | None) -> tuple[int, ...]:
        """Values moved at the border after `move`, and how many moves there are; None is as it is."""
        shapes, total = self.graph.shapes, np.zeros(2, np.int64)
        for name, (source, before) in self.inputs.items():
            kept = name in self.graph.outputs or any(r.name not in self.region for r in self.graph.consumers()[name])
            if move is None or kept:
                total += _cost(shapes[source], before)
            if move is not None:
                total += _cost(shapes[source], _then(before, move))
        for value, after in self.outputs.values():
            shape = shapes[value]
            if move is None:
                total += _cost(shape, after)
            else:
                total += _cost(_shape(shape, move), _then(_inverse(move, len(shape)), after))
        for value in self.leaving:
            if move is not None:
                total += _cost(_shape(shapes[value], move), _inverse(move, len(shapes[value])))
        return tuple(int(part) for part in total)

    def moved(self, move: Move) -> Graph:
        """The graph after `move`. Values that leave the region keep their name; the value moved gets a new one."""
        graph, shapes, writer = self.graph, self.graph.shapes, _Writer(set(self.graph.shapes))
        turned: dict[str, str] = {}
        for node in graph.nodes:
            if node.name in self.region:
                for name in graph.activations(node):
                    if name in self.inputs and name not in turned:
                        source, before = self.inputs[name]
                        turned[name] = writer.move(source, shapes[source], _then(before, move), "", f"{name}.moved")
                value = writer.free(f"{node.name}.moved") if node.name in self.leaving else node.name
                writer.nodes.append(Node(value, _turn(node.op, move), tuple(turned.get(n, n) for n in node.inputs)))
                turned[node.name] = value
                if node.name in self.leaving:
                    shape = shapes[node.name]
                    writer.move(value, _shape(shape, move), _inverse(move, len(shape)), node.name)
            elif node.name in self.outputs:
                value, after = self.outputs[node.name]
                back = _inverse(move, len(shapes[value]))
                writer.move(turned[value], _shape(shapes[value], move), _then(back, after), node.name)
            elif node.name not in self.between:
                inputs = tuple(writer.stands_for.get(name, name) for name in node.inputs)
                writer.nodes.append(dataclasses.replace(node, inputs=inputs))
        outputs = tuple(writer.stands_for.get(name, name) for name in graph.outputs)
        nodes = tuple(writer.nodes)
        bare = Graph(graph.name, graph.inputs, outputs, nodes, graph.constants, graph.input_shapes)
        return bare.with_nodes(nodes)


@dataclass
class _Writer:
    """The nodes of a graph being written. `stands_for`: values that turned out to be others."""

    taken: set[str]
    nodes: list[Node] = field(default_factory=list)
    stands_for: dict[str, str] = field(default_factory=dict)

    def free(self, stem: str) -> str:
        name, count = stem, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name

    def move(self, source: str, shape: Shape, move: Move, name: str, stem: str = "") -> str:
        """Write `move` of `source` as `name`, or if that is empty as a new value; the value's name comes back."""
        source = self.stands_for.get(source, source)
        target = _shape(shape, move)
        order = (*(axis for axis in move if axis is not None), *(a for a in range(len(shape)) if a not in move))
        whole = [axis for axis in order if axis == 0 or shape[axis] > 1]
        if whole == sorted(whole) and target == shape:
            if name:
                self.stands_for[name] = source
            return source
        final = name or self.free(stem)
        permuted = tuple(shape[axis] for axis in order)
        if whole != sorted(whole):
            inner = final if permuted == target else self.free(f"{final}.order")
            self.nodes.append(Node(inner, Permute(order), (source,)))
            source = inner
        if source != final:
            self.nodes.append(Node(final, Reshape(target[1:]), (source,)))
        return final


def _turn(op: Op, move: Move) -> Op:
    """The op on values moved so."""
    if isinstance(op, Concat):
        return Concat(move.index(op.axis))
    if isinstance(op, Slice):
        start, stop, step = (
            tuple(new if axis is None else old[axis] for axis in move)
            for old, new in ((op.start, 0), (op.stop, 1), (op.step, 1))
        )
        return Slice(start, stop, step)
    if isinstance(op, Pad):
        before, after = (tuple(0 if a is None else old[a] for a in move) for old in (op.before, op.after))
        return Pad(before, after, op.lowest)
    return op
