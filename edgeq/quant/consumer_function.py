"""Find the unary function that is an activation's only consumer.

Ranges are then chosen by the error after that function: below -3 a hard swish is 0, so no range need reach there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import LeakyReLU, MeanSquare, OpTable, Rsqrt
from edgeq.graph.patterns import gates_itself
from edgeq.graph.run import function
from edgeq.quant.observe import ConsumerFunction

__all__ = ["consumer_function"]

NORMS = OpTable("is no part of a norm", {MeanSquare: 0.25, Rsqrt: 0.5})
"""Exponents by which errors of norms (and of inverse norms) are judged. The relative error of a norm is the relative
error of what it scales; a root in place of the logarithm gives less weight to vectors that are almost 0."""

RATIOS = 0.25
"""The exponent for what an inverse or an inverse root reads, which is like the power of a norm."""


def consumer_function(graph: Graph, name: str) -> ConsumerFunction | None:
    """The unary function that is the only consumer of value `name`; None where its consumers are something else."""
    if name in graph.outputs:
        return None
    producer = graph.node(name)
    power = None if producer is None else NORMS.find(type(producer.op))
    if power is not None:
        return lambda x: np.maximum(x, 0.0) ** power
    readers = graph.consumers()[name]
    if len(readers) == 2:
        return _find_gate(graph, readers)
    op = readers[0].op if len(readers) == 1 else None
    if op is not None and op.reads_ratios:
        return lambda x: np.sign(x) * np.abs(x) ** RATIOS
    if op is not None and op.unary and op != LeakyReLU(1):
        return _of_arrays(function(op))
    return None


def _find_gate(graph: Graph, readers: Sequence[Node]) -> ConsumerFunction | None:
    """``x * gate(x)`` where the two readers are a gate that nothing else reads, and the product."""
    pairs = ((readers[0], readers[1]), (readers[1], readers[0]))
    pair = next((pair for pair in pairs if gates_itself(graph, pair[1]) == pair[0]), None)
    if pair is None:
        return None
    gate, product = pair
    if graph.consumers()[gate.name] != (product,) or gate.name in graph.outputs:
        return None
    kernel = function(gate.op)
    return _of_arrays(lambda x: x * kernel(x))


def _of_arrays(kernel: Callable[[Tensor], Tensor]) -> ConsumerFunction:
    return lambda x: np.asarray(kernel(torch.from_numpy(x)).numpy())
