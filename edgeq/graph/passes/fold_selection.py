"""Channels that are picked, reordered or repeated before layers: into the weights of those layers.

``x[:, [2, 1, 0]]`` is a Concat of Slices, as is ``x.repeat(1, 3, 1, 1)`` (of whole values). A convolution that reads it
reads `x` itself, with the weights of each channel of `x` added up and zeros for those that nobody picked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node, with_op
from edgeq.graph.ops import Concat, Conv2d, Linear, Slice
from edgeq.graph.passes._edit import Edit

__all__ = ["fold_selection"]


def fold_selection(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node, op in with_op(graph.nodes, Concat):
        found = _picked(edit, node) if op.axis == 1 else None
        readers = edit.readers[node.name]
        if found is None or node.name in graph.outputs or not readers:
            continue
        if not all(_reads_channels(graph, reader) and not edit.touched(reader) for reader in readers):
            continue
        source, places = found
        for reader in readers:
            weight = graph.constants[reader.inputs[1]]
            picked = np.eye(graph.shapes[source][1])[places]  # a row per channel that is read
            joined = np.moveaxis(np.tensordot(weight.astype(np.float64), picked, (1, 0)), -1, 1)
            name = edit.constant(reader.inputs[1], joined, reader)
            edit.replace(reader, Node(reader.name, reader.op, (source, name, *reader.inputs[2:])))
    return edit.done()


def _reads_channels(graph: Graph, node: Node) -> bool:
    """Is it a layer of constant weights whose every output reads all channels?"""
    ungrouped = isinstance(node.op, Linear) or (isinstance(node.op, Conv2d) and node.op.groups == 1)
    return ungrouped and all(name in graph.constants for name in node.inputs[1:])


def _picked(edit: Edit, node: Node) -> tuple[str, npt.NDArray[np.intp]] | None:
    """The one value whose channels `node` joins, and which channel each of its own is."""
    shapes = edit.graph.shapes
    pieces = []
    for name in node.inputs:
        before = edit.producer(name)
        if before is not None and isinstance(before.op, Slice) and _cuts_channels(before.op, shapes[before.inputs[0]]):
            cut = range(before.op.start[1], before.op.stop[1], before.op.step[1])
            pieces.append((before.inputs[0], np.array(cut, np.intp)))
        else:
            pieces.append((name, np.arange(shapes[name][1])))
    sources = {source for source, _ in pieces}
    if len(sources) != 1:
        return None
    return sources.pop(), np.concatenate([places for _, places in pieces])


def _cuts_channels(op: Slice, shape: tuple[int, ...]) -> bool:
    """Does it keep all of every dimension but the channels?"""
    others = [axis for axis in range(len(shape)) if axis != 1]
    return all((op.start[axis], op.stop[axis], op.step[axis]) == (0, shape[axis], 1) for axis in others)
