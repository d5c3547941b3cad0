"""A factor of scores becomes part of the softmax that reads them, which multiplies what it reads by a number anyway.

    (queries * f) @ keys + mask -> softmax        becomes        queries @ keys + mask / f -> softmax of f times that

Nothing is lost: a scale of integers is any number. As part of the layer that makes queries, keys and values, whose
outputs have one grid, a factor of 1/8 would cost the queries three of their bits.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Add, Affine, Constant, MatMul, Permute, Reshape, Slice, Softmax
from edgeq.graph.passes._edit import Edit

__all__ = ["scale_softmax"]

HANDS_ON = (Add, MatMul, Permute, Reshape, Slice)
"""What makes twice as much of twice the value, or adds a constant to it."""


def scale_softmax(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(Softmax):
        assert isinstance(node.op, Softmax)  # noqa: S101 - of this kind
        found = _scaled(edit, node)
        if found is None:
            continue
        scaled, masks = found
        factor = _factor(graph, scaled)
        for mask in masks:
            values = graph.constants[mask.inputs[0]].astype(np.float64) / factor
            edit.replace(mask, Node(mask.name, Constant(), (edit.constant(mask.inputs[0], values, mask),)))
        beta = float(np.float32(node.op.beta * factor))
        edit.replace(node, Node(node.name, Softmax(node.op.axis, beta), node.inputs))
        edit.forward(scaled.name, scaled.inputs[0])
    return edit.done()


def _scaled(edit: Edit, node: Node) -> tuple[Node, list[Node]] | None:
    """What multiplies, by one positive factor, all that `node` makes something of; and the constants added since."""
    masks: list[Node] = []
    values = list(node.inputs)
    if isinstance(node.op, Add):
        masks = [source for value in values if (source := edit.producer(value)) and isinstance(source.op, Constant)]
        values = [value for value in values if all(value != mask.name for mask in masks)]
        if len(masks) != 1 or any(edit.only_reader(mask.name) is not node or edit.touched(mask) for mask in masks):
            return None
    for value in values:
        before = edit.producer(value)
        if before is None or edit.only_reader(value) is not node or edit.touched(before):
            continue
        if isinstance(before.op, Affine) and _factor(edit.graph, before) > 0:
            return before, masks
        found = _scaled(edit, before) if isinstance(before.op, HANDS_ON) else None
        if found is not None:
            return found[0], [*masks, *found[1]]
    return None


def _factor(graph: Graph, node: Node) -> float:
    """The number that an `Affine` multiplies everything by, 0 where there is none."""
    scale, shift = (graph.constants[name] for name in node.inputs[1:])
    return float(scale.flat[0]) if (scale == scale.flat[0]).all() and not shift.any() else 0.0
