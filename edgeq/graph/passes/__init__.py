"""Graph rewrites. A pass is a function Graph -> Graph that computes the same network and changes nothing it was given;
when it finds nothing to do it returns the very graph it got, which is how `optimize` knows it is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.passes.absorb_scale import absorb_scale
from edgeq.graph.passes.align_layouts import align_layouts
from edgeq.graph.passes.count_padding import count_padding
from edgeq.graph.passes.fold_batchnorm import fold_batchnorm
from edgeq.graph.passes.fold_channel_shuffle import fold_channel_shuffle
from edgeq.graph.passes.fold_pad import fold_pad, refuse_infinite
from edgeq.graph.passes.fold_pixel_shuffle import fold_pixel_shuffle
from edgeq.graph.passes.fold_selection import fold_selection
from edgeq.graph.passes.fuse_activation import fuse_activation
from edgeq.graph.passes.hoist_moves import hoist_moves
from edgeq.graph.passes.insert_rescale_before_concat import insert_rescale_before_concat
from edgeq.graph.passes.lower_hard_swish import lower_hard_swish
from edgeq.graph.passes.lower_transposed import lower_transposed
from edgeq.graph.passes.recompose_hard_activations import recompose_hard_activations
from edgeq.graph.passes.scale_softmax import scale_softmax
from edgeq.graph.passes.simplify import simplify
from edgeq.graph.passes.sink_layout_ops import sink_layout_ops
from edgeq.graph.passes.untie_weights import untie_weights

__all__ = [
    "PASSES",
    "Pass",
    "absorb_scale",
    "align_layouts",
    "count_padding",
    "fold_batchnorm",
    "fold_channel_shuffle",
    "fold_pad",
    "fold_pixel_shuffle",
    "fold_selection",
    "fuse_activation",
    "hoist_moves",
    "insert_rescale_before_concat",
    "lower_hard_swish",
    "lower_transposed",
    "optimize",
    "recompose_hard_activations",
    "scale_softmax",
    "simplify",
    "sink_layout_ops",
    "untie_weights",
]

Pass = Callable[[Graph], Graph]

PASSES: Sequence[Pass] = (
    simplify,
    sink_layout_ops,
    hoist_moves,
    align_layouts,
    recompose_hard_activations,
    scale_softmax,
    absorb_scale,
    fold_batchnorm,
    fold_selection,
    fuse_activation,
    fold_pad,
    untie_weights,
)
"""The passes in order. Batch norm must be folded before an activation can be fused into the convolution before it."""


def optimize(graph: Graph, passes: Sequence[Pass] = PASSES) -> Graph:
    """Run `passes` in order, again and again until none finds anything to do. Moves that undo each other go first, for
    what they part are neighbours.

    What has no integer kernel of its own is lowered only then: a transposed convolution first takes its batch norm and
    activation along.
    """
    settled = refuse_infinite(_settle(_settle(graph, (simplify, sink_layout_ops, hoist_moves, align_layouts)), passes))
    routed = fold_channel_shuffle(fold_pixel_shuffle(settled))
    lowered = insert_rescale_before_concat(lower_hard_swish(count_padding(lower_transposed(routed))))
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
