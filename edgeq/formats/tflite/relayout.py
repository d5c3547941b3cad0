"""Reshapes and permutations in a file of another order: what they cost there, which is mostly nothing.

A chain of them is followed as one order of the elements its first value holds. A layer that is fully connected reads
any order, its weights rearranged; elsewhere the end of the chain is put into the order of its shape, by one TRANSPOSE
if by any: a channel shuffle is one, a detector's rows of boxes or a flattened 1 x 1 map are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.order import Order, Turn, natural, permute, turn, turned
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Linear, MatMul, Permute, Reshape
from edgeq.integer.graph import IntegerGraph

__all__ = ["Mirror", "Moves", "Network", "follow"]

Network = Graph | IntegerGraph
Mirror = tuple[bool, bool]


@dataclass
class Moves:
    """`alias`: values that share a tensor with their source. `orders`: of values that do not lie as their shape says.
    `turns`: what puts the others there."""

    alias: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    turns: dict[str, Turn] = field(default_factory=dict)


def follow(graph: Network, mirror: Mirror) -> Moves:
    """Decide for every reshape and permutation. `UnsupportedError` for one no transposition computes."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    try:
        return _follow(graph, mirror, readers, free=True)
    except _MixedError:  # two orders meet
        return _follow(graph, mirror, readers, free=False)


class _MixedError(Exception):
    """An elementwise op would read two orders."""


def _follow(graph: Network, mirror: Mirror, readers: Mapping[str, list[Node]], *, free: bool) -> Moves:
    """`free`: elementwise ops between a chain and a fully connected layer may keep the chain's order."""
    moves = Moves()

    def order(name: str) -> Order:
        return moves.orders.get(name) or natural(graph.shapes[name], mirror)

    for node in graph.nodes:
        sources = graph.activations(node)
        if isinstance(node.op, (Reshape, Permute)):
            current = order(sources[0])
            if isinstance(node.op, Permute):
                after = permute(current, graph.shapes[sources[0]], node.op.order)
                if after is None:
                    raise _untransposable(node)
                current = after
            required = natural(graph.shapes[node.name], mirror)
            if _passes(graph, node.name, readers):
                moves.alias[node.name] = sources[0]
            elif not (free and _is_tolerated(graph, node.name, readers)):
                change = turn(current, required)
                other = _as_other_operand(graph, node.name, current, readers)
                if other is not None and (change is None or change.moves or change.flips):
                    moves.orders[node.name], change = turned(graph.shapes[node.name]), other
                if change is None:
                    raise _untransposable(node)
                moves.turns[node.name] = change
                continue
            if current != required:
                moves.orders[node.name] = current
        elif node.op.elementwise and any(name in moves.orders for name in sources):
            if any(order(name) != order(sources[0]) for name in sources):
                raise _MixedError
            moves.orders[node.name] = order(sources[0])
    return moves


def _passes(graph: Network, name: str, readers: Mapping[str, list[Node]]) -> bool:
    """Do all readers see through to the tensor behind? Further moves do, and layers that are fully connected."""
    those = readers.get(name, [])
    return bool(those) and name not in graph.outputs and all(_sees_through(r) for r in those)


def _sees_through(reader: Node) -> bool:
    return isinstance(reader.op, (Linear, Permute, Reshape))


def _as_other_operand(graph: Network, name: str, current: Order, readers: Mapping[str, list[Node]]) -> Turn | None:
    """How a tensor in the `current` order is `name` with its matrices turned, which products read as they do others;
    None where that would move anything, or others read it."""
    those, shape = readers.get(name, []), graph.shapes[name]
    if name in graph.outputs or not all(isinstance(r.op, MatMul) and r.inputs[0] != name for r in those):
        return None
    change = turn(current, turned(shape)) if those else None
    return None if change is None or change.moves or change.flips else change


def _is_tolerated(graph: Network, name: str, readers: Mapping[str, list[Node]]) -> bool:
    """Does everything downstream take any order, through elementwise ops, until a fully connected layer?"""
    those = readers.get(name, [])
    if not those or name in graph.outputs or len(graph.shapes[name]) != 2:
        return False
    return all(_sees_through(r) or (r.op.elementwise and _is_tolerated(graph, r.name, readers)) for r in those)


def _untransposable(node: Node) -> UnsupportedError:
    return UnsupportedError(
        f"{type(node.op).__name__} cuts across the axes of what it reads",
        where=node.name,
        why="in NHWC its values lie in another order than in the model's NCHW, and no transposition joins the two",
        hint="flatten straight into a linear layer, or reshape along whole dimensions",
    )
