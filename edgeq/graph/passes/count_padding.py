"""An average whose padding counts is a depthwise convolution of equal weights, which carries padding itself.

No integer runtime's average pool counts its padding, so it arrives as a Pad of its own: a pass over memory. The weights
are one number, hence exact in integers of any width, and the result gets a scale of its own.
"""

from __future__ import annotations

import numpy as np

from edgeq.graph.ir import Graph, Node, with_op
from edgeq.graph.ops import AvgPool2d, Conv2d, Pad
from edgeq.graph.passes._edit import Edit
from edgeq.graph.passes.fold_pad import spatial

__all__ = ["count_padding"]


def count_padding(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node, op in with_op(graph.nodes, AvgPool2d):
        pad = edit.producer(node.inputs[0])
        sides = spatial(pad) if pad is not None and isinstance(pad.op, Pad) and not pad.op.lowest else None
        if pad is None or sides is None or any(op.padding):
            continue
        channels = graph.shapes[node.name][1]
        equal = np.full((channels, 1, *op.kernel), 1 / (op.kernel[0] * op.kernel[1]))
        weight = edit.constant(f"{node.name}.weight", equal, node)
        edit.replace(node, Node(node.name, Conv2d(op.stride, sides, groups=channels), (pad.inputs[0], weight)))
    return edit.done()
