"""Freeze: a float graph and its calibration to integers, once, for every writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import BatchNorm, Conv2d, Linear
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.wideratios import check_ratios
from edgeq.quant.calibrate import Calibration
from edgeq.quant.fakequant import weight_integers

__all__ = ["Frozen", "freeze"]

SMALLEST_MULTIPLIER = 2.0**-16
"""Smallest input x weight / output scale ratio given to a kernel. Far below what a live channel has, far above where
fixed-point multipliers (31 bits) and XNNPACK (2^-32) give up."""

LARGEST_BIAS = {"int8": 2.0**30, "int16": 2.0**45}
"""By the type of activations: half of what the kernels' sums hold (32 bits, 47), leaving the other half to products."""


@dataclass(frozen=True)
class Frozen:
    """The integer graph, and per node how many output channels had a scale too small for a runtime."""

    graph: IntegerGraph
    dead_channels: Mapping[str, int]


def freeze(graph: Graph, calibration: Calibration) -> Frozen:
    """Round weights and biases of an optimised `graph` onto the calibrated grids.

    Every convolution and linear leaves with a bias. Raises `UnsupportedError` if a batch norm is still there, or
    for 16-bit grids that no kernel can reach (`edgeq.integer.wideratios`).
    """
    left = next(graph.of_kind(BatchNorm), None)
    if left is not None:
        raise UnsupportedError("a batch norm cannot be frozen", where=left.name, hint="run passes.optimize first")
    graph = calibration.rounded(graph)
    constants: dict[str, npt.NDArray[Any]] = {}
    quantizations = {name: q for name, q in calibration.activations.items() if name in graph.shapes}
    nodes: list[Node] = []
    dead: dict[str, int] = {}
    for node in graph.nodes:
        if not isinstance(node.op, (Conv2d, Linear)):
            nodes.append(node)
            continue
        weight_name = node.inputs[1]
        bias_name = node.inputs[2] if len(node.inputs) == 3 else f"{node.name}.bias"
        weight = graph.constants[weight_name]
        bias = graph.constants.get(bias_name, np.zeros(len(weight), np.float32)).astype(np.float64)
        bias = bias + calibration.bias_corrections.get(node.name, 0.0)
        wide = quantizations[node.inputs[0]].dtype == "int16"
        x_scale = float(quantizations[node.inputs[0]].scale)
        decided = calibration.weights[weight_name]
        wanted = decided.scale.astype(np.float64)
        smallest = np.maximum(
            SMALLEST_MULTIPLIER * float(quantizations[node.name].scale) / x_scale,
            np.abs(bias) / (x_scale * LARGEST_BIAS[quantizations[node.inputs[0]].dtype]),
        )
        if np.any(wanted < smallest):
            dead[node.name] = int(np.sum(wanted < smallest))
        zeros = np.zeros(len(weight), np.int32)
        weights = Quantization(np.maximum(wanted, smallest).astype(np.float32), zeros, "int8", 0, decided.bits)
        biases = Quantization(np.float32(x_scale) * weights.scale, zeros, "int64" if wide else "int32", axis=0)
        constants[weight_name] = weight_integers(weight, weights)
        constants[bias_name] = np.round(bias / biases.scale.astype(np.float64)).astype(biases.dtype)
        quantizations |= {weight_name: weights, bias_name: biases}
        nodes.append(Node(node.name, node.op, (node.inputs[0], weight_name, bias_name)))
    integer = IntegerGraph(
        name=graph.name,
        inputs=graph.inputs,
        outputs=graph.outputs,
        nodes=tuple(nodes),
        constants=constants,
        quantizations=quantizations,
        input_shapes=graph.input_shapes,
    )
    check_ratios(integer)
    return Frozen(integer, dead)
