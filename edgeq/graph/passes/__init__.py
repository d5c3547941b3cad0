"""Graph rewrites. A pass is a function Graph -> Graph that computes the same network and changes nothing it was given;
when it finds nothing to do it returns the very graph it got, which is how `optimize` knows it is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.passes.count_padding import count_padding
from edgeq.graph.passes.fold_batchnorm import fold_batchnorm
from edgeq.graph.passes.fold_pad import fold_pad, refuse_infinite
from edgeq.graph.passes.fold_pixel_shuffle import shuffle_weights
from edgeq.graph.passes.fuse_activation import fuse_activation
from edgeq.graph.passes.insert_rescale_before_concat import part_grids
from edgeq.graph.passes.lower_hard_swish import lower_hard_swish
from edgeq.graph.passes.lower_transposed import lower_transposed
from edgeq.graph.passes.recompose_hard_activations import hard_gates
from edgeq.graph.passes.simplify import simplify
from edgeq.graph.passes.sink_layout_ops import sink_moves
from edgeq.graph.passes.untie_weights import unshare

__all__ = [
    "PASSES",
    "Pass",
    "count_padding",
    "fold_batchnorm",
    "fold_pad",
    "fuse_activation",
    "hard_gates",
    "lower_hard_swish",
    "lower_transposed",
    "optimize",
    "part_grids",
    "shuffle_weights",
    "simplify",
    "sink_moves",
    "unshare",
]

Pass = Callable[[Graph], Graph]

PASSES: Sequence[Pass] = (simplify, sink_moves, hard_gates, fold_batchnorm, fuse_activation, fold_pad, unshare)
"""In this order: batch norm must be gone before an activation can meet its convolution."""


def optimize(graph: Graph, passes: Sequence[Pass] = PASSES) -> Graph:
    """Run `passes` in order, again and again until none finds anything to do. Moves that undo each other go first, for
    what they part are neighbours.

    What has no integer kernel of its own is lowered only then: a transposed convolution first takes its batch norm and
    activation along.
    """
    settled = refuse_infinite(_settle(_settle(graph, (simplify, sink_moves)), passes))
    lowered = part_grids(lower_hard_swish(shuffle_weights(count_padding(lower_transposed(settled)))))
    return settled if lowered is settled else _settle(lowered, passes)


def _settle(graph: Graph, passes: Sequence[Pass]) -> Graph:
    for _ in range(len(graph.nodes) + 1):
        before = graph
        for rewrite in passes:
            graph = rewrite(graph)
        if graph is before:
            return graph
    raise UnsupportedError(
        "passes undo each other's work", where=graph.name, hint="this is a bug in edgeq, please report it"
    )
