"""Batch size and number of steps for an effort: a batch that fits a laptop's memory, steps that fit the minutes.

Minutes are counted and not timed, so that one command gives one result everywhere. They are counted from the number of
values that a network computes, because below eight bits every value is divided, rounded, clipped and masked, and this
takes more time than the multiplications (`benchmarks/step_cost.py`).
"""

from __future__ import annotations

import math

from edgeq.graph.ir import Graph

__all__ = ["EFFORTS", "FEWEST", "LARGEST", "batch_for", "minutes_for", "steps_for", "values_of"]

EFFORTS = {"fast": 2.0, "balanced": 15.0, "best": 60.0}
"""Minutes of one core for each effort; two cores need little more than half."""

NANOSECONDS = {"kd": 20.0, "zaq": 50.0, "dfq-akd": 50.0}
"""Cost of a step per value and image, in ns, by method; zaq and dfq-akd include their share of the generator's step.

Measured on one core of a 2020s server processor: `benchmarks/results/step_cost.md`."""

VALUES = 2**26
"""Largest number of values of a whole batch. A step keeps about a dozen float32 copies of each, some 3 GB."""

LARGEST, SMALLEST = 64, 2
FEWEST = 50
"""Smallest number of steps; fewer teach nothing."""


def values_of(graph: Graph) -> int:
    """Number of values that an optimised `graph` computes for one image."""
    return sum(math.prod(graph.shapes[node.name]) for node in graph.nodes)


def batch_for(graph: Graph) -> int:
    """Number of images in a step, a power of two."""
    fitting = max(SMALLEST, VALUES // values_of(graph))
    return int(min(LARGEST, 2 ** math.floor(math.log2(fitting))))


def steps_for(graph: Graph, method: str, effort: str) -> int:
    """Number of steps of `method` at an effort of `EFFORTS`."""
    return max(FEWEST, int(60 * EFFORTS[effort] / _seconds(graph, method)))


def minutes_for(graph: Graph, method: str, steps: int) -> float:
    """Estimated minutes of one core for `steps` steps."""
    return steps * _seconds(graph, method) / 60


def _seconds(graph: Graph, method: str) -> float:
    return 1e-9 * NANOSECONDS[method] * values_of(graph) * batch_for(graph)
