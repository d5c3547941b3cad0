"""Channels to pixels in the order files want, by the order of the convolution's filters before.

``pixel_shuffle`` takes ``(C, r, r)`` out of the channels. In NHWC the cheap order is ``(r, r, C)``, one DEPTH_TO_SPACE;
which filter comes where costs nothing.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph.ir import Graph, Node, with_op
from edgeq.graph.ops import Conv2d, Permute, Reshape
from edgeq.graph.passes._edit import Edit

__all__ = ["fold_pixel_shuffle"]

SHUFFLE = (0, 1, 4, 2, 5, 3)
"""The permutation of ``(N, C, r, r, H, W)`` that `pixel_shuffle` is."""


def fold_pixel_shuffle(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node, op in with_op(graph.nodes, Permute):
        split = edit.producer(node.inputs[0])
        conv = edit.producer(split.inputs[0]) if split is not None else None
        if split is None or conv is None or op.order != SHUFFLE or not isinstance(split.op, Reshape):
            continue
        alone = edit.only_reader(conv.name) is split and edit.only_reader(split.name) is node
        c, down, across, h, w = graph.shapes[split.name][1:]
        fits = graph.shapes[conv.name][1:] == (c * down * across, h, w)
        if not (alone and fits and isinstance(conv.op, Conv2d) and conv.op.groups == 1) or edit.touched(conv):
            continue
        order = np.arange(c * down * across).reshape(c, -1).T.reshape(-1)
        names = [edit.constant(name, graph.constants[name][order].astype(np.float64), conv) for name in conv.inputs[1:]]
        edit.replace(conv, Node(conv.name, conv.op, (conv.inputs[0], *names)))
        edit.replace(split, Node(split.name, Reshape((down, across, c, h, w)), split.inputs))
        edit.replace(node, Node(node.name, Permute((0, 3, 4, 1, 5, 2)), node.inputs))
    return edit.done()
