"""The table of ONNX emitters, filled by one file per op family.

An emitter says what an op is called in ONNX and how its attributes read there, the same for float and integer.
Attributes at their ONNX default are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq.formats.onnx.context import Context
from edgeq.graph.ir import Node
from edgeq.graph.ops import OpTable

__all__ = ["EMITTERS", "emit"]

EMITTERS: OpTable[Callable[[Context, Node, Any], None]] = OpTable("has no ONNX form here")
"""Emitters are called with the context, the node and its op."""


def emit(context: Context, node: Node) -> None:
    """Write one node. Raises `UnsupportedError` for an op kind nobody has an emitter for."""
    EMITTERS.get(node.op, node.name)(context, node, node.op)
