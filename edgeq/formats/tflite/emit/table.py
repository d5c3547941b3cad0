"""The table of TFLite emitters, filled by one file per op family, and how one node is written.

An emitter turns a node of the graph into rows of a TFLite file. Integer and float networks share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import TargetLimitError
from edgeq.formats.tflite.emit.emitter import Emitter, grid_key
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import OpTable

__all__ = ["EMITTERS", "emit"]

_Emit = Callable[[Emitter, Node, Any], None]

EMITTERS: OpTable[_Emit] = OpTable("has no TFLite form")
"""Emitters are called with the file, the node and its op."""


def emit(e: Emitter, node: Node) -> None:
    """Append what computes `node`. `UnsupportedError` for ops no TFLite form is known for."""
    rule = EMITTERS.get(node.op, node.name)
    if node.name in e.layout.alias:
        e.index[node.name] = e.index[e.layout.alias[node.name]]
        return
    e.dtype = e.type_of(node.inputs[0])
    if node.op.shares_quantization:
        _check_same_quantization(e, node)
    if e.wide and node.op.fused_activation == ops.NEGATIVE:
        _negative(e, rule, node)
    else:
        rule(e, node, node.op)


def _negative(e: Emitter, rule: _Emit, node: Node) -> None:
    """An int16 grid goes on above 0, and no kernel fuses an end there: a MINIMUM of its own."""
    q, name = e.quantizations[node.name], node.name
    linear = e.activation(f"{name}/linear", e.file_shape(e.graph.shapes[name]), q)
    e.index[name] = linear
    rule(e, node, node.op)
    del e.index[name]
    zero = e.constant("maximum", np.zeros((), np.int16), q)
    e.operator(schema.BuiltinOperator.MINIMUM, (linear, zero), e.output(node))


def _check_same_quantization(e: Emitter, node: Node) -> None:
    seen = {grid_key(e.quantizations.get(name)) for name in (node.name, *e.graph.activations(node))}
    if len(seen) > 1:
        raise TargetLimitError(
            f"{type(node.op).__name__} would have to rescale",
            where=node.name,
            hint="its inputs and output need one quantization",
        )
