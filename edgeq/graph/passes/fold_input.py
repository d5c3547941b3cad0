"""A scale and a shift per channel of the network's input, into the convolutions that read it.

    w' = w * scale        b' = b + sum over taps of w * shift

Exact where these see nothing but the input: padding then still is real 0, which `shift` does not reach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d
from edgeq.graph.passes._edit import Edit

__all__ = ["fold_input"]

Doubles = npt.NDArray[np.float64]


def fold_input(graph: Graph, scale: Doubles, shift: Doubles) -> Graph:
    """What computes of ``x`` what `graph` computes of ``scale * x + shift``, both ``(C,)``.

    Raises `UnsupportedError` where anything but a convolution reads the input, or one that pads reads a shifted one.
    """
    edit = Edit(graph)
    for node in edit.readers[graph.inputs[0]]:
        if not isinstance(node.op, Conv2d) or (any(node.op.padding) and np.any(shift)):
            raise UnsupportedError("the input's scale and shift cannot be folded", where=node.name)
        weight = graph.constants[node.inputs[1]].astype(np.float64)
        channels = _channels(weight.shape[0], weight.shape[1], node.op.groups)[:, :, None, None]
        bias = graph.constants[node.inputs[2]] if len(node.inputs) == 3 else np.zeros(len(weight))
        names = (
            edit.constant(node.inputs[1], weight * scale[channels], node),
            edit.constant(f"{node.name}.bias", bias + (weight * shift[channels]).sum((1, 2, 3)), node),
        )
        edit.replace(node, Node(node.name, node.op, (node.inputs[0], *names)))
    return edit.done()


def _channels(outputs: int, inputs: int, groups: int) -> npt.NDArray[np.int64]:
    """The input channel that each of a weight's ``(O, I/groups)`` planes reads."""
    first = np.arange(outputs) // (outputs // groups) * inputs
    return np.asarray(first[:, None] + np.arange(inputs))
