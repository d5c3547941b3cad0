"""Run an integer graph node by node with the exact kernels."""

from __future__ import annotations

import numpy as np

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.table import KERNELS, Array

__all__ = ["run"]


def run(graph: IntegerGraph, inputs: Array) -> dict[str, Array]:
    """Every node's output by name, int8 (or int16), for integer inputs ``(N, ...)`` of the graph's one input.

    A value saturates at the limits of its own quantization: at -8 and 7 where that has 4 bits, as no runtime does.
    Raises `ConfigError` for inputs of another shape, `UnsupportedError` for an op without a reference.
    """
    if len(graph.inputs) != 1:
        raise UnsupportedError(f"the reference runs graphs with one input, not {len(graph.inputs)}", where=graph.name)
    (entry,) = graph.inputs
    inputs = np.asarray(inputs)
    shape = graph.input_shapes[entry][1:]
    if inputs.shape[1:] != shape or inputs.dtype.kind not in "iu":
        hint = f"expected integers (N, {', '.join(map(str, shape))})"
        raise ConfigError(f"input is {inputs.dtype} {list(inputs.shape)}", where=graph.name, hint=hint)
    values: dict[str, Array] = {entry: inputs}
    for node in graph.nodes:
        kernel = KERNELS.get(node.op, node.name)
        output = kernel(graph, node, node.op, [values[name] for name in graph.activations(node)])
        if node.op.holds_constant:
            output = np.broadcast_to(output, (len(inputs), *output.shape[1:]))
        values[node.name] = output.astype(graph.quantizations[node.name].dtype)
    del values[entry]
    return values
