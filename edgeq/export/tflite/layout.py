"""Where every value of a network lies in a TFLite file: NHWC, seen directly or in a mirror, flat values permuted.

One decision for the whole network: the orientation (direct or reversed, height and width each) in which the windows of
all convolutions and pools cost least extra. Weights, slices and flattened features are rearranged to match while
writing; only the network's spatial inputs and outputs are reversed by an op, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.export.tflite.windows import Axis, Window, fit, pad_and_fit, subsample
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    Add,
    AvgPool2d,
    Clamp,
    Conv2d,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Permute,
    Reshape,
    Resize2d,
    Shape,
)
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.resize import mirrors

__all__ = ["Carriage", "Layout", "Mirror", "Network", "plan"]

Network = Graph | IntegerGraph
Mirror = tuple[bool, bool]
Order = npt.NDArray[np.int64]

ORIENTATIONS: tuple[Mirror, ...] = ((False, False), (False, True), (True, False), (True, True))

PAD_COST = 1e12
"""A PAD is the last resort. All other costs are in multiply-accumulates of a dense convolution:"""
OP_COST = 10_000
"""an op more,"""
REVERSE_COST = 60
"""one element reversed at the network's edge (measured: 0.7 ns, where a dense MAC takes 0.012),"""
WHOLE_REVERSE_COST = 5
"""one of an input reversed as a whole (0.06 ns),"""
DEPTHWISE_COST = 4
"""a MAC of a depthwise convolution (measured; and XNNPACK's kernels for 9 taps serve none of 12 or 16),"""
BYTE_COST = 100
"""a byte more in the file."""
REVERSIBLE_PIXELS = 64 * 64
"""Below this the two reshapes around a whole reversal cost as much as they save."""


@dataclass(frozen=True)
class Carriage:
    """How one windowed node is written: an optional PAD or one-hot subsampling first, then `window`.

    `pad` is (top, bottom, left, right) in file orientation; `picks` the (kernel, position of the one) per axis.
    """

    window: Window
    height: Axis
    width: Axis
    pad: tuple[int, int, int, int] | None = None
    picks: tuple[tuple[int, int], tuple[int, int]] | None = None
    cost: float = 0.0


@dataclass(frozen=True)
class Layout:
    """`alias` maps a value to the value whose tensor holds it (a flatten that a fully connected layer reads through).

    `orders` gives, for values that are not 4-D, the logical position of each feature in file order.
    """

    mirror: Mirror
    shapes: Mapping[str, Shape]
    alias: Mapping[str, str]
    orders: Mapping[str, Order]
    carriages: Mapping[str, Carriage]
    reversed_channels: frozenset[str] = frozenset()
    """Network inputs whose channels come in reverse order too, because all of their bytes are reversed at once."""

    def tensor(self, name: str) -> str:
        """The value whose tensor holds `name`."""
        while name in self.alias:
            name = self.alias[name]
        return name

    def order(self, name: str) -> Order:
        """Logical flat position (per sample) of each element of `name`, in the file's order."""
        return self.orders[name] if name in self.orders else standard_order(self.shapes[name], self.mirror)

    def to_logical(self, name: str, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A file tensor's content ``(1, ...)`` as the logical value `name`, shape included."""
        flat = np.empty(array.size, array.dtype)
        flat[self.order(name)] = array.reshape(-1)
        return flat.reshape(self.shapes[name])


def standard_order(shape: Shape, mirror: Mirror) -> Order:
    """NHWC, mirrored, for 4-D shapes; torch's own order otherwise."""
    positions = np.arange(math.prod(shape[1:]), dtype=np.int64)
    if len(shape) != 4:
        return positions
    picture = positions.reshape(shape[1:])[:, :: -1 if mirror[0] else 1, :: -1 if mirror[1] else 1]
    return np.ascontiguousarray(picture.transpose(1, 2, 0)).reshape(-1)


def plan(graph: Network) -> Layout:
    """Decide orientation, padding and flat orders. `UnsupportedError` where no layout can hold a value's order."""
    best: tuple[float, Mirror, dict[str, Carriage]] | None = None
    windowed = [node for node in graph.nodes if isinstance(node.op, (Conv2d, MaxPool2d, AvgPool2d))]
    for mirror in ORIENTATIONS:
        if not _turns(graph, mirror):
            continue
        carriages = {node.name: _carry(graph, node, mirror) for node in windowed}
        cost = sum(c.cost for c in carriages.values()) + _edge_cost(graph, mirror)
        if best is None or cost < best[0]:
            best = cost, mirror, carriages
    assert best is not None  # noqa: S101
    cost, mirror, carriages = best
    if math.isinf(cost):
        lost = next(name for name, carriage in carriages.items() if math.isinf(carriage.cost))
        raise UnsupportedError(
            "average pooling that leaves padding out of its mean", where=lost,
            why="TFLite has it for SAME padding only",
            hint="set count_include_pad=True or use symmetric padding with an odd kernel and stride 1",
        )  # fmt: skip
    alias, orders = _flat(graph, mirror)
    flipped = frozenset(name for name in graph.inputs if _reversible(graph, name, mirror))
    return Layout(mirror, graph.shapes, alias, orders, carriages, flipped)


def _turns(graph: Network, mirror: Mirror) -> bool:
    """Does every resize give the same integers in this mirror?"""
    return all(
        mirrors(size, out, node.op)
        for node in graph.nodes
        if isinstance(node.op, Resize2d)
        for turned, size, out in zip(mirror, graph.shapes[node.inputs[0]][2:], node.op.size, strict=True)
        if turned
    )


def _reversible(graph: Network, name: str, mirror: Mirror) -> bool:
    """Can this input be turned by reversing all of it, channels included? Convolutions then read them backwards.

    Measured for 224 x 224 x 3: 9 microseconds instead of 95 for rows and columns alone, which moves 3 bytes at a time.
    """
    shape = graph.shapes[name]
    readers = [node for node in graph.nodes if name in node.inputs]
    dense = all(isinstance(node.op, Conv2d) and node.op.groups == 1 for node in readers)
    large = len(shape) == 4 and shape[2] * shape[3] >= REVERSIBLE_PIXELS
    return large and all(mirror) and dense and name not in graph.outputs


def _edge_cost(graph: Network, mirror: Mirror) -> float:
    """What turning the network's spatial inputs and outputs round costs, pictures that end as rows among them."""
    total = 0.0
    for node in graph.nodes:
        if isinstance(node.op, Permute):
            total += sum(mirror) * (OP_COST + REVERSE_COST * math.prod(graph.shapes[node.name]))
    for name in (*graph.inputs, *graph.outputs):
        shape = graph.shapes[name]
        if len(shape) == 4 and any(turned and size > 1 for turned, size in zip(mirror, shape[2:], strict=True)):
            whole = name in graph.inputs and _reversible(graph, name, mirror)
            per_element = WHOLE_REVERSE_COST if whole else REVERSE_COST
            total += (3 if whole else sum(mirror)) * OP_COST + per_element * math.prod(shape)
    return total


def axes(graph: Network, node: Node, mirror: Mirror) -> tuple[Axis, Axis]:
    """The node's windows along height and width, in file orientation."""
    op = node.op
    assert isinstance(op, (Conv2d, MaxPool2d, AvgPool2d))  # noqa: S101
    sizes, outs = graph.shapes[node.inputs[0]][2:], graph.shapes[node.name][2:]
    kernel = graph.shapes[node.inputs[1]][2:] if isinstance(op, Conv2d) else op.kernel
    dilation = op.dilation if isinstance(op, Conv2d) else (1, 1)
    found = []
    for i in (0, 1):
        axis = Axis(sizes[i], kernel[i], op.stride[i], dilation[i], op.padding[2 * i], outs[i])
        found.append(axis.mirrored() if mirror[i] else axis)
    return found[0], found[1]


def _carry(graph: Network, node: Node, mirror: Mirror) -> Carriage:
    """The cheapest way to write one windowed node in this orientation."""
    height, width = axes(graph, node, mirror)
    convolution = isinstance(node.op, Conv2d)
    channels = graph.shapes[node.inputs[0]][1]
    reads_padding = max(height.before, height.after, width.before, width.after) > 0
    counts = isinstance(node.op, AvgPool2d) and node.op.count_padding and reads_padding
    choices: list[Carriage] = []
    window = None if counts else fit(height, width, growable=convolution)
    if window:
        choices.append(Carriage(window, height, width, cost=_tap_cost(graph, node, window, height, width)))
    picks = subsample(height), subsample(width)
    if convolution and picks[0] and picks[1]:
        one_hot = (picks[0], -height.before), (picks[1], -width.before)
        taps = picks[0] * picks[1] * channels
        cost = float(OP_COST + taps * (BYTE_COST + DEPTHWISE_COST * height.out * width.out))
        choices.append(Carriage(Window("VALID"), height, width, picks=one_hot, cost=cost))
    window = pad_and_fit(height, width, growable=convolution)
    if window and reads_padding and (convolution or counts or isinstance(node.op, MaxPool2d)):
        pad = (max(height.before, 0), max(height.after, 0), max(width.before, 0), max(width.after, 0))
        cost = PAD_COST + _tap_cost(graph, node, window, height, width)
        choices.append(Carriage(window, height, width, pad=pad, cost=cost))
    return min(choices, key=lambda c: c.cost, default=Carriage(Window("VALID"), height, width, cost=math.inf))


def _tap_cost(graph: Network, node: Node, window: Window, height: Axis, width: Axis) -> float:
    """What the zero taps cost, in file and in time."""
    grown = [axis.kernel + sum(taps) for axis, taps in zip((height, width), window.taps, strict=True)]
    more = math.prod(grown) - height.kernel * width.kernel
    if not more or not isinstance(node.op, Conv2d):
        return 0.0
    weight = graph.shapes[node.inputs[1]]
    per_mac = DEPTHWISE_COST if node.op.depthwise(weight) else 1
    return float(more * weight[0] * weight[1] * (BYTE_COST + per_mac * height.out * width.out))


def _flat(graph: Network, mirror: Mirror) -> tuple[dict[str, str], dict[str, Order]]:
    """Follow features through reshapes: which share a tensor with their source, and in which order they lie."""
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    alias: dict[str, str] = {}
    orders: dict[str, Order] = {}

    def order(name: str) -> Order:
        return orders[name] if name in orders else standard_order(graph.shapes[name], mirror)

    for node in graph.nodes:
        sources = graph.activations(node)
        if isinstance(node.op, Reshape):
            _reshape(graph, node, order(sources[0]), mirror, orders)
            wanted = readers.get(node.name, [])
            if wanted and node.name not in graph.outputs and all(isinstance(r.op, Linear) for r in wanted):
                alias[node.name] = sources[0]
        elif isinstance(node.op, Permute):
            _channels_last(graph, node, readers.get(node.name, []))
            orders[node.name] = np.arange(math.prod(graph.shapes[node.name][1:]), dtype=np.int64)
            if not any(turned and graph.shapes[node.name][1 + i] > 1 for i, turned in enumerate(mirror)):
                alias[node.name] = sources[0]
        elif isinstance(node.op, (Add, Clamp, LeakyReLU)) and any(name in orders for name in sources):
            if any(not np.array_equal(order(name), order(sources[0])) for name in sources):
                raise _out_of_order(node)
            orders[node.name] = order(sources[0])
        elif not isinstance(node.op, Linear) and any(name in orders for name in sources):
            raise _out_of_order(node)
        if node.name in graph.outputs and node.name in orders:
            raise _out_of_order(node)
    return alias, orders


def _reshape(graph: Network, node: Node, source: Order, mirror: Mirror, orders: dict[str, Order]) -> None:
    natural = standard_order(graph.shapes[node.name], mirror)
    if np.array_equal(source, natural):
        return
    if len(graph.shapes[node.name]) != 2:
        raise _out_of_order(node)
    orders[node.name] = source


def _channels_last(graph: Network, node: Node, readers: list[Node]) -> None:
    """The one permutation a file needs no TRANSPOSE for: pictures to rows of values, pixel by pixel."""
    assert isinstance(node.op, Permute)  # noqa: S101
    rows = all(isinstance(r.op, Reshape) and len(graph.shapes[r.name]) != 4 for r in readers)
    if node.op.order != (0, 2, 3, 1) or not readers or not rows or node.name in graph.outputs:
        raise UnsupportedError(
            f"a permutation to {node.op.order}", where=node.name, why="it would need a TRANSPOSE",
            hint="the form without is x.permute(0, 2, 3, 1).reshape(batch, -1, values), as in a detector's heads",
        )  # fmt: skip


def _out_of_order(node: Node) -> UnsupportedError:
    return UnsupportedError(
        f"{type(node.op).__name__} mixes channels with pixels", where=node.name,
        why="in NHWC its values lie in another order than in the model's NCHW",
        hint="flatten straight into a linear layer, or pool to 1x1 first",
    )  # fmt: skip
