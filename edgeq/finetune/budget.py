"""What an effort buys: a batch that fits a laptop's memory, and steps that fit minutes.

Counted and not timed, so that one command gives one result everywhere. Arithmetic is not what takes the time: below
eight bits every value is divided, rounded, clipped and masked, and a step's cost follows the number of values a network
computes far more closely than its multiplications (`benchmarks/step_cost.py`).
"""

from __future__ import annotations

import math

from edgeq.graph.ir import Graph

__all__ = ["EFFORTS", "FEWEST", "LARGEST", "batch_for", "minutes_for", "steps_for", "values_of"]

EFFORTS = {"fast": 2.0, "balanced": 15.0, "best": 60.0}
"""Minutes of one core; two cores need little more than half."""

NANOSECONDS = {"kd": 20.0, "zaq": 50.0, "dfq-akd": 50.0}
"""Per value and image: one step of the student, and a game's share of its generator's. Measured on one core of a 2020s
server processor: `benchmarks/results/step_cost.md`."""

VALUES = 2**26
"""Values of a whole batch. A step keeps a dozen copies of each in float32: some 3 GB."""

LARGEST, SMALLEST = 64, 2
FEWEST = 50
"""Steps below which nothing is learned, whatever they cost."""


def values_of(graph: Graph) -> int:
    """Values an optimised `graph` computes for one image."""
    return sum(math.prod(graph.shapes[node.name]) for node in graph.nodes)


def batch_for(graph: Graph) -> int:
    """Images a step: a power of two."""
    fitting = max(SMALLEST, VALUES // values_of(graph))
    return int(min(LARGEST, 2 ** math.floor(math.log2(fitting))))


def steps_for(graph: Graph, method: str, effort: str) -> int:
    """Steps of `method` at an effort of `EFFORTS`."""
    return max(FEWEST, int(60 * EFFORTS[effort] / _seconds(graph, method)))


def minutes_for(graph: Graph, method: str, steps: int) -> float:
    """Of one core, about."""
    return steps * _seconds(graph, method) / 60


def _seconds(graph: Graph, method: str) -> float:
    return 1e-9 * NANOSECONDS[method] * values_of(graph) * batch_for(graph)
