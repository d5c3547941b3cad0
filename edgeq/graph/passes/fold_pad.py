"""Padding of height and width into the convolution or max pool that follows.

Zeros into a convolution always. Into a max pool only when leaving the zeros out changes nothing: values known to be at
least zero, and a real pixel under every window. Never into an average pool: there the zeros count. Minus infinity is
what a max pool pads with, and only that.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d, MaxPool2d, Op, Pad, Sides
from edgeq.graph.passes._edit import Edit
from edgeq.graph.passes._known import non_negative

__all__ = ["fold_pad", "refuse_infinite", "spatial"]


def fold_pad(graph: Graph) -> Graph:
    edit = Edit(graph)
    positive = non_negative(graph)
    for pad in graph.of_kind(Pad):
        sides = spatial(pad)
        if sides is None:
            continue
        for node in edit.readers[pad.name]:
            op = _absorb(node.op, sides, pad, pad.inputs[0] in positive)
            if op is not None and node.inputs[0] == pad.name and not edit.touched(node):
                edit.replace(node, Node(node.name, op, (pad.inputs[0], *node.inputs[1:])))
    return edit.done()


def spatial(node: Node) -> Sides | None:
    """The pad's four sides when it pads nothing but height and width."""
    op = node.op
    if not isinstance(op, Pad) or len(op.before) != 4 or any((*op.before[:2], *op.after[:2])):
        return None
    return (op.before[2], op.after[2], op.before[3], op.after[3])


def refuse_infinite(graph: Graph) -> Graph:
    """No integer is minus infinity: raises `UnsupportedError` where it could not become a max pool's padding."""
    for node in graph.of_kind(Pad):
        if isinstance(node.op, Pad) and node.op.lowest:
            raise UnsupportedError(
                "padding with minus infinity",
                where=node.name,
                why="it is not the padding of max pools alone",
                hint="pad with zeros, or right before F.max_pool2d and by less than its kernel",
            )
    return graph


def _absorb(op: Op, sides: Sides, pad: Node, positive: bool) -> Op | None:
    """`op` with the sides in its own padding, None where that would change a value."""
    lowest = isinstance(pad.op, Pad) and pad.op.lowest
    if not isinstance(op, MaxPool2d if lowest else (Conv2d, MaxPool2d)):
        return None
    a, b, c, d = (own + more for own, more in zip(op.padding, sides, strict=True))
    if isinstance(op, Conv2d):
        return replace(op, padding=(a, b, c, d))
    covered = max(a, b) < op.kernel[0] and max(c, d) < op.kernel[1]
    return replace(op, padding=(a, b, c, d)) if (lowest or positive) and covered else None
