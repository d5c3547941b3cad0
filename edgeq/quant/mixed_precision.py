"""Mixed precision: requantizations between the 8-bit and the 16-bit parts of a network.

They are needed because TFLite's kernels read and write values of one type.
"""

from __future__ import annotations

from edgeq.graph.ir import Graph
from edgeq.graph.passes.insert_requantize import insert_requantize
from edgeq.quant.bits import decide_widths
from edgeq.quant.scheme import Scheme

__all__ = ["apply_mixed_precision"]


def apply_mixed_precision(graph: Graph, scheme: Scheme) -> Graph:
    """Insert requantizations between the 8-bit and the 16-bit ops of an optimised `graph`; itself where all have the
    same.

    Raises `ConfigError` for a pattern of `scheme` that matches no layer.
    """
    return insert_requantize(graph, decide_widths(graph, scheme), scheme.ends[1]) if scheme.mixed else graph
