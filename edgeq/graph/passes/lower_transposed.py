"""A transposed convolution becomes a convolution whose channels are the phases of its output, and channels to pixels.

With stride s, output row ``s i + r`` reads ``x[i - m]`` through tap ``s m + r``: for each phase ``r`` an ordinary
convolution of ``ceil(k / s)`` taps on the small picture. All phases are channels of one; a permutation interleaves
them, and what padding cuts off is sliced away where it is no whole number of strides.

Every runtime has an integer kernel for that, onnxruntime none for ConvTranspose; no zeros are multiplied but those that
fill up kernels whose size is no multiple of the stride; and each phase has weight scales of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node, with_op
from edgeq.graph.ops import Conv2d, ConvTranspose2d, Permute, Reshape, Slice
from edgeq.graph.passes._edit import Edit

__all__ = ["lower_transposed"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Axis:
    """One axis: `taps` per phase, the small convolution's padding, its `size`, and where the result starts in it."""

    taps: int
    before: int
    after: int
    size: int
    start: int


def _axis(size: int, kernel: int, stride: int, cut: int, out: int) -> _Axis:
    taps = -(-kernel // stride)
    whole = min(max(cut, 0) // stride, taps - 1)  # strides cut off by padding less
    before, start = taps - 1 - whole, cut - whole * stride
    after = max(-(-(start + out) // stride) - size - before + taps - 1, 0)
    return _Axis(taps, before, after, size + before + after - taps + 1, start)


def lower_transposed(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node, op in with_op(graph.nodes, ConvTranspose2d):
        weight = graph.constants[node.inputs[1]]
        (_, _, h, w), (_, o, oh, ow) = graph.shapes[node.inputs[0]], graph.shapes[node.name]
        rows = _axis(h, weight.shape[2], op.stride[0], op.padding[0], oh)
        columns = _axis(w, weight.shape[3], op.stride[1], op.padding[2], ow)
        (sy, sx), groups = op.stride, op.groups
        names = [edit.constant(node.inputs[1], _phases(weight, op, rows.taps, columns.taps).astype(np.float64), node)]
        if len(node.inputs) == 3:
            bias = graph.constants[node.inputs[2]].reshape(groups, 1, -1)
            names.append(edit.constant(node.inputs[2], np.tile(bias, (1, sy * sx, 1)).reshape(-1), node))
        padding = (rows.before, rows.after, columns.before, columns.after)
        small = Conv2d((1, 1), padding, groups=groups, activation=op.activation)
        apart = Reshape((groups, sy, sx, o // groups, rows.size, columns.size))
        whole = (o, rows.size * sy, columns.size * sx)
        start, stop = (0, 0, rows.start, columns.start), (1, o, rows.start + oh, columns.start + ow)
        phases, name = f"{node.name}.phases", node.name
        edit.replace(
            node,
            Node(phases, small, (node.inputs[0], *names)),
            Node(f"{name}.apart", apart, (phases,)),
            Node(f"{name}.between", Permute((0, 1, 4, 5, 2, 6, 3)), (f"{name}.apart",)),
            Node(f"{name}.whole", Reshape(whole), (f"{name}.between",)),
            Node(name, Slice(start, stop, (1, 1, 1, 1)), (f"{name}.whole",)),
        )
    return edit.done()


def _phases(weight: Floats, op: ConvTranspose2d, down: int, across: int) -> Floats:
    """Weights ``(groups, phases, outputs / group, ...)`` flat, from ``(O, I/groups, kh, kw)``; missing taps are 0."""
    (sy, sx), (o, i, kh, kw) = op.stride, weight.shape
    full = np.zeros((o, i, down * sy, across * sx), weight.dtype)
    full[:, :, :kh, :kw] = weight
    filters = np.empty((op.groups, sy * sx, o // op.groups, i, down, across), weight.dtype)
    for place, (ry, rx) in enumerate(itertools.product(range(sy), range(sx))):
        taps = full[:, :, ry::sy, rx::sx][:, :, ::-1, ::-1]
        filters[:, place] = taps.reshape(op.groups, -1, i, down, across)
    return filters.reshape(-1, i, down, across)
