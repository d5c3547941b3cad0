"""Quantize and dequantize in float: the simulation used while calibrating, on the grid the integers will have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edgeq.graph.ir import Graph, Node
from edgeq.integer.graph import Quantization
from edgeq.quant.weight_scales import max_scales, mse_scales

__all__ = ["LINEAR", "fake_quantize", "quantize_weight", "simulation", "weight_integers"]

AT_ONCE = 2**15
"""How many weights are rounded at a time, in float64, so that they fit into the cache."""
SMALLEST_SCALE = 1e-18
"""The smallest scale of a weight. Times the smallest of an activation it is still a normal float32 number."""
LINEAR = "/linear"
"""Suffix of the value before a fused activation, in a `simulation` graph."""


def fake_quantize(value: Tensor, quantization: Quantization) -> Tensor:
    """`value` on the grid of a per-tensor `quantization`, rounding half away from zero as the integer kernels do."""
    scale, zero = float(quantization.scale), int(quantization.zero_point)
    low, high = quantization.limits
    ratio = value / scale
    nearest = ratio.sign()
    nearest *= ratio.abs_().add_(0.5).floor_()
    return nearest.clamp_(low - zero, high - zero).mul_(scale)


def quantize_weight(weight: npt.NDArray[np.float32], bits: int = 8) -> Quantization:
    """Symmetric integers of `bits` bits in int8 storage, one scale per output channel (the first axis).

    8 bits reach the largest weight; fewer take the scale of least squared error. All-zero channels get a tiny scale,
    which `freeze` raises to what a runtime accepts.
    """
    scales = max_scales if bits == 8 else mse_scales
    scale = np.maximum(scales(weight, 2 ** (bits - 1) - 1), SMALLEST_SCALE).astype(np.float32)
    return Quantization(scale, np.zeros(len(weight), np.int32), "int8", axis=0, bits=bits)


def weight_integers(weight: npt.NDArray[np.float32], quantization: Quantization) -> npt.NDArray[np.int8]:
    """Round a weight to its nearest integers, in ±127 at 8 bits, ±7 at 4: symmetric, so the lowest integer is never
    used."""
    limit = quantization.limits[1]
    scale = quantization.scale.astype(np.float64).reshape(-1, *([1] * (weight.ndim - 1)))
    integers = np.empty(weight.shape, np.int8)
    step = max(1, AT_ONCE * len(weight) // max(weight.size, 1))
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        ratio = weight[rows] / scale[rows]
        np.rint(ratio, out=ratio)
        integers[rows] = np.clip(ratio, -limit, limit, out=ratio)
    return integers


def simulation(graph: Graph, weights: Mapping[str, Quantization]) -> Graph:
    """Put the weights of `graph` on their integer grids and split fused activations off again.

    A node ``c`` with an activation becomes ``c/linear`` and a clamp named ``c``: the value before the clamp is where
    bias correction looks, the value ``c`` is where the runtime rounds.
    """
    constants = dict(graph.constants)
    for name, quantization in weights.items():
        integers = weight_integers(constants[name], quantization)
        scale = quantization.scale.reshape(-1, *([1] * (integers.ndim - 1)))
        constants[name] = np.multiply(integers, scale, dtype=np.float32)
    nodes: list[Node] = []
    for node in graph.nodes:
        fused = node.op.fused_activation
        if fused is not None:
            nodes.append(Node(node.name + LINEAR, node.op.with_activation(None), node.inputs))
            nodes.append(Node(node.name, fused, (node.name + LINEAR,)))
        else:
            nodes.append(node)
    return graph.replace(nodes=tuple(nodes), constants=constants)
