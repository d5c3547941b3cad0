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

from edgeq.errors import TargetLimitError, UnsupportedError
from edgeq.formats.tflite.order import Order, Turn, natural, positions
from edgeq.formats.tflite.padding import Axis, Window, fit, pad_and_fit
from edgeq.formats.tflite.relayout import Mirror, Moves, Network, follow
from edgeq.graph.ir import Node, with_op
from edgeq.graph.ops import Pair, Resize2d, Shape, SlidingWindow
from edgeq.integer.reference.resize import mirrors

__all__ = ["Carriage", "Layout", "Mirror", "Network", "plan"]

ORIENTATIONS: tuple[Mirror, ...] = ((False, False), (False, True), (True, False), (True, True))

# Nanoseconds, as `benchmarks/layout_cost.py` measured them with XNNPACK on one thread:
OP = 120.0
"""an op more,"""
REVERSED = 0.7
"""one element reversed at the network's edge,"""
REVERSED_WHOLE = 0.06
"""one of an input reversed as a whole,"""
MAC = 0.0045
"""a multiply-accumulate of a dense convolution more,"""
NARROW = 8
"""whose taps cost as if they read at least so many channels,"""
DEPTHWISE = ((9, 0.5), (25, 2.0))
MULTIPASS = 23.0
"""a value of a depthwise convolution of at most so many taps (25: 1.2 to 3.4, as its memory lies), and of more,"""
CROPPED = 0.025
"""a byte copied by a STRIDED_SLICE,"""
PADDED, PADDED_PIXEL = 0.5, 3.0
"""a byte, and a pixel, copied by a PAD where kernels do copy, without a delegate; a quarter above what was measured in
warm caches. XNNPACK makes a PAD part of the convolution behind it, for nothing; counted as a copy, one is taken only
where it is faster everywhere."""
BYTE = 1.2
"""A byte more in the file, by preference."""
REVERSIBLE_PIXELS = 64 * 64
"""Below this the two reshapes around a whole reversal cost as much as they save."""


@dataclass(frozen=True)
class Carriage:
    """How one windowed node is written: an optional PAD or crop first, then `window`.

    `pad` is (top, bottom, left, right) in file orientation; `crop` the rows and columns in front that are left out.
    """

    window: Window
    height: Axis
    width: Axis
    pad: tuple[int, int, int, int] | None = None
    crop: Pair | None = None
    cost: float = 0.0


@dataclass(frozen=True)
class Layout:
    """`alias` maps a value to the value whose tensor holds it (a flatten that a fully connected layer reads through).

    `orders` are those of values that lie otherwise than their shape says; `turns` are how reshapes and permutations
    that leave a value in its natural order get it there.
    """

    mirror: Mirror
    shapes: Mapping[str, Shape]
    alias: Mapping[str, str]
    orders: Mapping[str, Order]
    turns: Mapping[str, Turn]
    carriages: Mapping[str, Carriage]
    reversed_channels: frozenset[str] = frozenset()
    """Network inputs whose channels come in reverse order too, because all of their bytes are reversed at once."""

    def tensor(self, name: str) -> str:
        """The value whose tensor holds `name`."""
        while name in self.alias:
            name = self.alias[name]
        return name

    def order(self, name: str) -> npt.NDArray[np.int64]:
        """Logical flat position (per sample) of each element of `name`, in the file's order."""
        return positions(self.orders.get(name) or natural(self.shapes[name], self.mirror))

    def turned(self, name: str) -> bool:
        """Do the matrices of `name`, an operand of products, lie with rows and columns exchanged?"""
        return name in self.turns and name in self.orders

    def to_logical(self, name: str, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A file tensor's content ``(1, ...)`` as the logical value `name`, shape included."""
        flat = np.empty(array.size, array.dtype)
        flat[self.order(name)] = array.reshape(-1)
        return flat.reshape(self.shapes[name])


def plan(graph: Network) -> Layout:
    """Decide orientation, padding and orders. `UnsupportedError` where no layout can hold a value's order."""
    best: tuple[float, Mirror, dict[str, Carriage], Moves] | None = None
    refused: UnsupportedError | None = None
    windows = _windows(graph)
    for mirror in ORIENTATIONS:
        if not _turns(graph, mirror):
            continue
        try:
            moves = follow(graph, mirror)
        except UnsupportedError as error:
            refused = refused or error
            continue
        carriages = {n.name: _carry(graph, n, windows[n.name], mirror) for n in graph.nodes if n.name in windows}
        cost = sum(c.cost for c in carriages.values()) + _edge_cost(graph, mirror) + _move_cost(graph, moves)
        if best is None or cost < best[0]:
            best = cost, mirror, carriages, moves
    if best is None:
        assert refused is not None  # noqa: S101 - the direct orientation turns nothing, so it was tried
        raise refused
    cost, mirror, carriages, moves = best
    if math.isinf(cost):
        lost = next(name for name, carriage in carriages.items() if math.isinf(carriage.cost))
        raise TargetLimitError(
            "average pooling that leaves padding out of its mean",
            where=lost,
            why="TFLite has it for SAME padding only",
            hint="set count_include_pad=True or use symmetric padding with an odd kernel and stride 1",
        )
    flipped = frozenset(name for name in graph.inputs if _reversible(graph, name, mirror))
    return Layout(mirror, graph.shapes, moves.alias, moves.orders, moves.turns, carriages, flipped)


def _windows(graph: Network) -> dict[str, SlidingWindow]:
    """The windows of convolutions and pools, by the node's name."""
    windows = {node.name: node.op.sliding_window([graph.shapes[name] for name in node.inputs]) for node in graph.nodes}
    return {name: window for name, window in windows.items() if window is not None}


def _is_dense_convolution(graph: Network, node: Node) -> bool:
    weight = graph.shapes[node.inputs[1]] if node.op.is_layer else ()
    return len(weight) == 4 and weight[1] == graph.shapes[node.inputs[0]][1]


def _move_cost(graph: Network, moves: Moves) -> float:
    """Transposed elements cost about what reversed ones do."""
    passes = {name: len(turn.flips) + turn.moves for name, turn in moves.turns.items()}
    return sum(n * (OP + REVERSED * math.prod(graph.shapes[name])) for name, n in passes.items())


def _turns(graph: Network, mirror: Mirror) -> bool:
    """Does every resize give the same integers in this mirror?"""
    return all(
        mirrors(size, out, op)
        for node, op in with_op(graph.nodes, Resize2d)
        for turned, size, out in zip(mirror, graph.shapes[node.inputs[0]][2:], op.size, strict=True)
        if turned
    )


def _reversible(graph: Network, name: str, mirror: Mirror) -> bool:
    """Can this input be turned by reversing all of it, channels included? Convolutions then read them backwards.

    Measured for 224 x 224 x 3: 9 microseconds instead of 95 for rows and columns alone, which moves 3 bytes at a time.
    """
    shape = graph.shapes[name]
    readers = [node for node in graph.nodes if name in node.inputs]
    dense = all(_is_dense_convolution(graph, node) for node in readers)
    large = len(shape) == 4 and shape[2] * shape[3] >= REVERSIBLE_PIXELS
    return large and all(mirror) and dense and name not in graph.outputs


def _edge_cost(graph: Network, mirror: Mirror) -> float:
    """What turning the network's spatial inputs and outputs round costs."""
    total = 0.0
    for name in (*graph.inputs, *graph.outputs):
        shape = graph.shapes[name]
        if len(shape) == 4 and any(turned and size > 1 for turned, size in zip(mirror, shape[2:], strict=True)):
            whole = name in graph.inputs and _reversible(graph, name, mirror)
            per_element = REVERSED_WHOLE if whole else REVERSED
            total += (3 if whole else sum(mirror)) * OP + per_element * math.prod(shape)
    return total


def axes(graph: Network, node: Node, window: SlidingWindow, mirror: Mirror) -> tuple[Axis, Axis]:
    """The node's windows along height and width, in file orientation."""
    sizes, outs = graph.shapes[node.inputs[0]][2:], graph.shapes[node.name][2:]
    result = []
    for i in (0, 1):
        axis = Axis(sizes[i], window.kernel[i], window.stride[i], window.dilation[i], window.padding[2 * i], outs[i])
        result.append(axis.mirrored() if mirror[i] else axis)
    return result[0], result[1]


def _carry(graph: Network, node: Node, sliding: SlidingWindow, mirror: Mirror) -> Carriage:
    """The cheapest way to write one windowed node in this orientation."""
    height, width = axes(graph, node, sliding, mirror)
    convolution = node.op.is_layer
    channels = graph.shapes[node.inputs[0]][1]
    reads_padding = max(height.before, height.after, width.before, width.after) > 0
    counts = reads_padding and sliding.border == "zero" and not convolution
    choices: list[Carriage] = []
    window = None if counts else fit(height, width, growable=convolution)
    if window:
        choices.append(Carriage(window, height, width, cost=_tap_cost(graph, node, window, height, width)))
    start = max(-height.before, 0), max(-width.before, 0)
    cropped = height.cropped(), width.cropped()
    window = fit(*cropped, growable=convolution) if any(start) and not counts else None
    if window:
        cost = OP + CROPPED * channels * cropped[0].size * cropped[1].size
        cost += _tap_cost(graph, node, window, height, width)
        choices.append(Carriage(window, height, width, crop=start, cost=cost))
    window = pad_and_fit(height, width, growable=convolution)
    if window and reads_padding and sliding.border != "left out":
        pad = (max(height.before, 0), max(height.after, 0), max(width.before, 0), max(width.after, 0))
        pixels = height.padded().size * width.padded().size
        cost = OP + pixels * (PADDED_PIXEL + PADDED * channels) + _tap_cost(graph, node, window, height, width)
        choices.append(Carriage(window, height, width, pad=pad, cost=cost))
    return min(choices, key=lambda c: c.cost, default=Carriage(Window("VALID"), height, width, cost=math.inf))


def _tap_cost(graph: Network, node: Node, window: Window, height: Axis, width: Axis) -> float:
    """What the zero taps cost, in file and in time."""
    if window.plain or not node.op.is_layer:
        return 0.0
    had = height.kernel * width.kernel
    grown = math.prod(axis.kernel + sum(taps) for axis, taps in zip((height, width), window.taps, strict=True))
    outputs, channels = graph.shapes[node.inputs[1]][:2]
    places = outputs * height.out * width.out
    if channels == 1 < graph.shapes[node.inputs[0]][1]:  # one filter for each input channel
        time = places * (_depthwise(grown) - _depthwise(had))
    else:
        time = places * (grown - had) * max(channels, NARROW) * MAC
    return time + (grown - had) * outputs * channels * BYTE


def _depthwise(taps: int) -> float:
    """Cost per value of a depthwise kernel of so many taps; XNNPACK fills a kernel up to the next size it has."""
    return next((time for most, time in DEPTHWISE if taps <= most), MULTIPASS)
