"""How much finer than its inputs an int16 output may be: beyond, LiteRT's 16-bit kernels overflow or abort the process.

Only values that are all but constant on the calibration images come near these limits.
"""

from __future__ import annotations

import numpy as np

from edgeq.errors import UnsupportedError
from edgeq.graph.elementwise import Mul, Requantize
from edgeq.graph.ir import Node
from edgeq.graph.ops import Add, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear
from edgeq.integer.graph import IntegerGraph

__all__ = ["check_ratios"]

LARGEST = 2.0**14
"""Of input scale (times weight scale) / output scale: the shift that rescales a sum ends at 15 bits."""

LARGEST_PRODUCT = 1.0
"""Of a product's: its 30 bits leave no room for a shift to the left."""

LARGEST_SUM = 2.0**14
"""Of twice the larger scale / output scale: ADD has 15 bits of headroom and takes no multiplier of 1."""


def check_ratios(graph: IntegerGraph) -> None:
    """Raises `UnsupportedError` naming the first op of `graph` whose int16 output is too fine for its kernel."""
    for node in graph.nodes:
        if graph.quantizations[node.name].dtype != "int16":
            continue
        ratio, largest = _ratio(graph, node)
        if ratio >= largest:
            raise UnsupportedError(
                f"{type(node.op).__name__} onto a 16-bit grid {ratio:.3g} times finer than its inputs'",
                where=node.name,
                why=f"TFLite's 16-bit kernel takes less than {largest:g}",
                hint="its output is almost constant on the calibration images: use others, or a8",
            )  # fmt: skip


def _ratio(graph: IntegerGraph, node: Node) -> tuple[float, float]:
    scales = [float(np.max(graph.quantizations[name].scale)) for name in (*node.inputs, node.name)]
    output = scales[-1]
    if isinstance(node.op, (Conv2d, Linear)):
        return scales[0] * scales[1] / output, LARGEST
    if isinstance(node.op, Mul):
        return scales[0] * scales[1] / output, LARGEST_PRODUCT
    if isinstance(node.op, Add):
        return 2 * max(scales[:-1]) / output, LARGEST_SUM
    if isinstance(node.op, (Clamp, GlobalAvgPool, LeakyReLU, Requantize)):
        return scales[0] / output, LARGEST
    return 0.0, LARGEST
