"""Find the feature maps on which two networks are compared, in the graph of any captured network."""

from __future__ import annotations

from edgeq.graph.ir import Graph
from edgeq.graph.ops import Add, Conv2d

__all__ = ["block_ends", "feature_taps"]


def feature_taps(graph: Graph) -> tuple[str, ...]:
    """The last feature map before each change of resolution, and the output of the last convolution; in order.

    Maps of one pixel are no features (they are pooled already) and are left out. Residual networks so give the end of
    each stage, which is where ZAQ's released code taps them by hand.
    """
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    taps: list[str] = []
    for node in graph.nodes:
        shape = graph.shapes[node.name]
        for name in graph.activations(node):
            before = graph.shapes[name]
            if name in order and len(before) == 4 and before[2] * before[3] > 1 and before[2:] != shape[2:]:
                taps.append(name)
    convolutions = [node.name for node in graph.of_kind(Conv2d)]
    if convolutions:
        taps.append(_end_of_branch(graph, convolutions[-1]))
    of_size: dict[tuple[int, ...], str] = {}
    for name in sorted(set(taps), key=order.__getitem__):
        of_size[graph.shapes[name][2:]] = name  # the last map of each resolution
    return tuple(sorted(of_size.values(), key=order.__getitem__))


def block_ends(graph: Graph) -> tuple[str, ...]:
    """Outputs of the blocks, in order: residual sums, or those of every convolution if there are fewer than three."""
    sums = tuple(node.name for node in graph.of_kind(Add))
    return sums if len(sums) > 2 else tuple(node.name for node in graph.of_kind(Conv2d))


def _end_of_branch(graph: Graph, name: str) -> str:
    """The value itself or, if it ends a residual branch, the sum that it goes into."""
    readers = graph.consumers()[name]
    if len(readers) == 1 and graph.shapes[readers[0].name] == graph.shapes[name]:
        return readers[0].name
    return name
