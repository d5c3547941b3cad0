"""A scale behind moves, as of queries in attention, becomes part of the layer whose output they move.

    layer -> reshape, permute, slice -> x * scale        becomes        layer with some of its rows scaled -> moves

The scale is followed backwards through the moves, element by element, and 1 stands for what they leave out. It must
come out as one number per channel of the layer, and whoever else reads what is scaled must read parts that keep a 1. A
product of matrices hands a scale on to its first operand.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Affine, MatMul, Permute, Reshape, Shape, Slice
from edgeq.graph.passes._edit import Edit

__all__ = ["absorb_scale"]

Doubles = npt.NDArray[np.float64]

LARGEST = 2**24
"""Elements of a value that are followed one by one."""


def absorb_scale(graph: Graph) -> Graph:
    """Until nothing is left to absorb: a product hands on what the moves before it take over."""
    while (after := _absorb(graph)) is not graph:
        graph = after
    return graph


def _absorb(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(Affine):
        scale, shift = (graph.constants[name].astype(np.float64) for name in node.inputs[1:])
        value = node.inputs[0]
        before = edit.producer(value)
        if before is None or np.any(shift) or not isinstance(before.op, (Permute, Reshape, Slice, MatMul)):
            continue
        if isinstance(before.op, MatMul):
            if len(set(scale.tolist())) == 1 and edit.only_reader(value) is node and not edit.touched(before):
                _before_product(edit, before, node)
            continue
        whole = np.broadcast_to(scale.reshape(-1, *[1] * (len(graph.shapes[value]) - 2)), graph.shapes[value][1:])
        layer, rows = _follow(graph, edit, node, np.asarray(whole))
        if layer is not None and rows is not None and not edit.touched(layer):
            _into(edit, layer, rows)
            edit.forward(node.name, value)
    return edit.done()


def _before_product(edit: Edit, product: Node, node: Node) -> None:
    """``(x @ y) * s`` is ``(x * s) @ y``."""
    left, right = product.inputs
    shape = edit.graph.shapes[left]
    scale = np.full(shape[1], float(edit.graph.constants[node.inputs[1]].flat[0]))
    arrays = {"s": scale, "b": np.zeros(len(scale))}
    names = [edit.constant(f"{node.name}.{word}", array, node) for word, array in arrays.items()]
    scaled = Node(f"{node.name}.operand", Affine(), (left, *names))
    edit.replace(product, scaled, Node(product.name, product.op, (scaled.name, right)))
    edit.forward(node.name, product.name)


def _follow(graph: Graph, edit: Edit, reader: Node, scale: Doubles) -> tuple[Node | None, Doubles | None]:
    """The layer whose output the input of `reader` is moved from, and the scale of each of its channels; None where
    there is no such layer. `scale` has the shape of that input, without the batch."""
    value = reader.inputs[0]
    while True:
        others = [other for other in graph.consumers()[value] if other is not reader]
        if value in graph.outputs or not all(_reads_ones(other, scale) for other in others):
            return None, None
        node = edit.producer(value)
        if node is None or scale.size > LARGEST:
            return None, None
        if node.op.is_layer:
            rows = scale.reshape(scale.shape[0], -1)
            same = bool((rows == rows[:, :1]).all()) and node.op.clamp is None
            return (node, rows[:, 0]) if same else (None, None)
        if not isinstance(node.op, (Permute, Reshape, Slice)):
            return None, None
        scale = _undo(node.op, scale, graph.shapes[node.inputs[0]][1:])
        reader, value = node, node.inputs[0]


def _reads_ones(node: Node, scale: Doubles) -> bool:
    """Does `node` read nothing of a value that `scale` changes?"""
    if not isinstance(node.op, Slice):
        return False
    cuts = zip(node.op.start[1:], node.op.stop[1:], node.op.step[1:], strict=True)
    return bool((scale[tuple(slice(*cut) for cut in cuts)] == 1).all())


def _undo(op: Permute | Reshape | Slice, scale: Doubles, shape: Shape) -> Doubles:
    """The scale of the input ``shape`` of a move whose output has `scale`."""
    if isinstance(op, Reshape):
        return scale.reshape(shape)
    if isinstance(op, Permute):
        return scale.transpose(np.argsort([axis - 1 for axis in op.order[1:]]))
    whole = np.ones(shape)
    whole[tuple(slice(*cut) for cut in zip(op.start[1:], op.stop[1:], op.step[1:], strict=True))] = scale
    return whole


def _into(edit: Edit, layer: Node, rows: Doubles) -> None:
    constants = edit.graph.constants
    weight = constants[layer.inputs[1]].astype(np.float64)
    names = [edit.constant(layer.inputs[1], weight * rows.reshape(-1, *[1] * (weight.ndim - 1)), layer)]
    if len(layer.inputs) == 3:
        names.append(edit.constant(layer.inputs[2], constants[layer.inputs[2]].astype(np.float64) * rows, layer))
    edit.replace(layer, Node(layer.name, layer.op, (layer.inputs[0], *names)))
