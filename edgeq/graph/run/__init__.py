"""A Graph run in torch, one file of float kernels per op family. `GraphModule` runs a graph, `function` one op."""

from edgeq.graph.run import attention, elementwise, layers, moves, norms
from edgeq.graph.run.module import GraphModule, Visit, function
from edgeq.graph.run.table import KERNELS

__all__ = ["KERNELS", "GraphModule", "Visit", "attention", "elementwise", "function", "layers", "moves", "norms"]
