"""Slices of one value that are all moved alike are cut from the moved value instead: one move in place of several.

    x -> slice -> permute            becomes        x -> permute -> slice
      -> slice -> permute                                        -> slice

`nn.MultiheadAttention` parts queries, keys and values, and then moves the heads of each in front of its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Permute, Reshape, Shape, Slice
from edgeq.graph.passes._edit import Edit

__all__ = ["hoist_moves"]


@dataclass(frozen=True)
class _Part:
    """A slice along one axis, what alone reads it, and where it begins and ends."""

    node: Node
    move: Node
    start: int
    stop: int


def hoist_moves(graph: Graph) -> Graph:
    edit = Edit(graph)
    for source, readers in edit.readers.items():
        for axis, parts in _parts(edit, source, readers).items():
            found = _moved(graph, axis, parts)
            if found is None or any(edit.touched(part.node) for part in parts):
                continue
            size = graph.shapes[source][axis]
            if sum(part.stop - part.start for part in parts) != size:
                continue
            move, place = found
            if isinstance(move, Reshape):
                move = Reshape((*move.shape[: place - 1], size, *move.shape[place:]))
            shape = move.infer([graph.shapes[source]])
            name = f"{parts[0].move.name}.whole"
            for number, part in enumerate(parts):
                start = tuple(part.start if axis == place else 0 for axis in range(len(shape)))
                stop = tuple(part.stop if axis == place else shape[axis] for axis in range(len(shape)))
                cut = Node(part.node.name, Slice(start, stop, (1,) * len(shape)), (name,))
                edit.replace(part.node, *([Node(name, move, (source,))] if number == 0 else []), cut)
                edit.forward(part.move.name, part.node.name)
    return edit.done()


def _parts(edit: Edit, source: str, readers: Sequence[Node]) -> dict[int, list[_Part]]:
    """The slices of `source` that one move alone reads, by the axis along which they are cut; two of each at least."""
    shape, parts = edit.graph.shapes[source], dict[int, list[_Part]]()
    for node in readers:
        move = edit.only_reader(node.name)
        if not isinstance(node.op, Slice) or move is None or not isinstance(move.op, (Permute, Reshape)):
            continue
        cuts = [axis for axis in range(1, len(shape)) if (node.op.start[axis], node.op.stop[axis]) != (0, shape[axis])]
        if len(cuts) == 1 and all(step == 1 for step in node.op.step):
            axis = cuts[0]
            parts.setdefault(axis, []).append(_Part(node, move, node.op.start[axis], node.op.stop[axis]))
    return {axis: those for axis, those in parts.items() if len(those) > 1}


def _moved(graph: Graph, axis: int, parts: list[_Part]) -> tuple[Permute | Reshape, int] | None:
    """What moves all of `parts`, and where their `axis` is afterwards; None where they are moved in different ways."""
    move = parts[0].move.op
    if isinstance(move, Permute):
        return (move, move.order.index(axis)) if all(part.move.op == move for part in parts) else None
    shapes = [(graph.shapes[part.node.name], graph.shapes[part.move.name]) for part in parts]
    for place in range(1, len(shapes[0][1])):
        if all(_keeps(before, axis, after, place) for before, after in shapes) and all(
            _without(after, place) == _without(shapes[0][1], place) for _, after in shapes
        ):
            assert isinstance(move, Reshape)  # noqa: S101 - moves are permutations or this
            return (move, place) if all(isinstance(part.move.op, Reshape) for part in parts) else None
    return None


def _keeps(before: Shape, axis: int, after: Shape, place: int) -> bool:
    """Does a reshape leave the dimension `axis` one of its own, at `place`?"""
    same = place < len(after) and before[axis] == after[place]
    return same and math.prod(before[:axis]) == math.prod(after[:place])


def _without(shape: Shape, place: int) -> Shape:
    return (*shape[:place], *shape[place + 1 :])
