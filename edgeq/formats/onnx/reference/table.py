"""The table of ONNX Runtime's integer arithmetic, filled by one file per op family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from edgeq.graph.ir import Node
from edgeq.graph.ops import OpTable
from edgeq.integer.graph import IntegerGraph

__all__ = ["KERNELS", "Integers", "Kernel"]

Integers = npt.NDArray[Any]
Kernel = Callable[[IntegerGraph, Node, Any, list[Integers], int], Integers]
"""From a graph, a node, its op, its inputs (constants included) and the shift to the node's int8 integers. The shift is
128 where the file's integers are uint8: kernels that add zero points in float round otherwise for it."""

KERNELS: OpTable[Kernel] = OpTable("has no ONNX Runtime arithmetic here")
