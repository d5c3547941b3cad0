"""Run an integer graph, or one node of it, with ONNX Runtime's arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.integer.graph import IntegerGraph

__all__ = ["evaluate", "run_ort_rounding"]


def run_ort_rounding(graph: IntegerGraph, inputs: Integers, activations: str) -> dict[str, Integers]:
    """Every activation of `graph` for int8 `inputs` ``(N, C, H, W)``, as ONNX Runtime would compute them in a row.

    `activations` is the file's type, "int8" or "uint8": where a kernel adds the zero point in float, it matters.
    """
    values: dict[str, Integers] = {graph.inputs[0]: inputs}
    for node in graph.nodes:
        values[node.name] = evaluate(graph, node, values, activations)
    return values


def evaluate(graph: IntegerGraph, node: Node, values: Mapping[str, Integers], activations: str) -> Integers:
    """Output of one node, int8, from the `values` of its inputs. Raises `UnsupportedError` for an unknown op kind."""
    kernel = KERNELS.get(node.op, node.name)
    inputs = [graph.constants[name] if name in graph.constants else values[name] for name in node.inputs]
    made = kernel(graph, node, node.op, inputs, 128 if activations == "uint8" else 0)
    batch = len(values[graph.inputs[0]])
    return np.broadcast_to(made, (batch, *made.shape[1:])) if node.op.holds_constant else made
