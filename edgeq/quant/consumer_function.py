"""What the network goes on with: the function of one value that reads an activation, if nothing else does.

Errors are then worth what that function makes of them: below -3 a hard swish is 0, and no range need reach there.
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
from edgeq.quant.observe import Transfer

__all__ = ["transfer"]

NORMS = OpTable("is no part of a norm", {MeanSquare: 0.25, Rsqrt: 0.5})
"""The powers that lengths of vectors, or inverse ones, are judged by: their relative errors are those of what they
scale, but a root instead of a logarithm lets go of vectors that are all but 0."""


def transfer(graph: Graph, name: str) -> Transfer | None:
    """The function that is all the network reads of value `name`; None where there is none, or more than that."""
    if name in graph.outputs:
        return None
    made = graph.node(name)
    power = None if made is None else NORMS.find(type(made.op))
    if power is not None:
        return lambda x: np.maximum(x, 0.0) ** power
    readers = graph.consumers()[name]
    if len(readers) == 2:
        return _gated(graph, readers)
    op = readers[0].op if len(readers) == 1 else None
    if op is not None and op.unary and op != LeakyReLU(1):
        return _of_arrays(function(op))
    return None


def _gated(graph: Graph, readers: Sequence[Node]) -> Transfer | None:
    """``x * gate(x)`` where the two readers are a gate that nothing else reads, and the product."""
    pairs = ((readers[0], readers[1]), (readers[1], readers[0]))
    found = next((pair for pair in pairs if gates_itself(graph, pair[1]) == pair[0]), None)
    if found is None:
        return None
    gate, product = found
    if graph.consumers()[gate.name] != (product,) or gate.name in graph.outputs:
        return None
    kernel = function(gate.op)
    return _of_arrays(lambda x: x * kernel(x))


def _of_arrays(kernel: Callable[[Tensor], Tensor]) -> Transfer:
    return lambda x: np.asarray(kernel(torch.from_numpy(x)).numpy())
