"""The table of exact integer kernels, filled by one file per op family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from edgeq.graph.ir import Node
from edgeq.graph.ops import OpTable
from edgeq.integer.graph import IntegerGraph

__all__ = ["KERNELS", "Array", "Kernel"]

Array = npt.NDArray[Any]
Kernel = Callable[[IntegerGraph, Node, Any, list[Array]], Array]
"""From a graph, a node, its op and the integers of its activations (no constants) to the node's integers."""

KERNELS: OpTable[Kernel] = OpTable("has no integer reference")
