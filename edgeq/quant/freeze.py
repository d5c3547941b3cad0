"""Freeze: a float graph and its calibration to integers, once, for every writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.kernel_limits import LARGEST_SUM, check_kernels
from edgeq.quant.calibrate import Calibration
from edgeq.quant.fakequant import weight_integers
from edgeq.quant.fit_kernels import Fitted, dead_scales, fit_kernels

__all__ = ["Frozen", "freeze"]

SUMS = {"int8": "int32", "int16": "int64"}
"""Types of biases, by the type of activations."""

NOTED = 1.5
"""How many times coarser a grid must have become for a note to say so."""

NAMED = 3
"""How many values a note names."""


@dataclass(frozen=True)
class Frozen:
    """The integer graph and what freezing it cost.

    `dead_channels` counts, by node name, output channels whose weights cannot move the output by half a step. `notes`
    are sentences about what the limits of kernels changed.
    """

    graph: IntegerGraph
    dead_channels: Mapping[str, int]
    notes: tuple[str, ...] = ()


def freeze(graph: Graph, calibration: Calibration) -> Frozen:
    """Round weights and biases of an optimised `graph` onto the calibrated grids.

    Every convolution and linear leaves with a bias. Grids that some kernel would refuse are moved (`fit_kernels`).
    Raises `UnsupportedError` for an op with constants that is no layer, such as a batch norm, and for what cannot be
    moved to where kernels take it.
    """
    for node in graph.nodes:
        if not (node.op.is_layer or node.op.holds_constant) and len(graph.activations(node)) < len(node.inputs):
            what = f"{type(node.op).__name__}, which has constants, cannot be frozen"
            raise UnsupportedError(what, where=node.name, hint="run passes.optimize first")
    graph = calibration.rounded(graph)
    fitted = fit_kernels(graph, calibration.activations, calibration.weights, calibration.bias_corrections)
    constants: dict[str, npt.NDArray[Any]] = {}
    quantizations = {name: q for name, q in fitted.activations.items() if name in graph.shapes}
    nodes: list[Node] = []
    dead: dict[str, int] = {}
    for node in graph.nodes:
        if node.op.holds_constant:
            (name,), q = node.inputs, quantizations[node.name]
            constants[name], quantizations[name] = q.quantize(graph.constants[name]), q
        if not node.op.is_layer:
            nodes.append(node)
            continue
        weight_name = node.inputs[1]
        bias_name = node.inputs[2] if len(node.inputs) == 3 else f"{node.name}.bias"
        weight = graph.constants[weight_name]
        bias = graph.constants.get(bias_name, np.zeros(len(weight), np.float32)).astype(np.float64)
        bias = bias + calibration.bias_corrections.get(node.name, 0.0)
        x, y, decided = quantizations[node.inputs[0]], quantizations[node.name], fitted.weights[weight_name]
        scale, nothing = dead_scales(weight, decided.scale.astype(np.float64), x, y)
        if nothing.any():
            dead[node.name] = int(nothing.sum())
        zeros = np.zeros(len(weight), np.int32)
        weights = Quantization(scale.astype(np.float32), zeros, "int8", 0, decided.bits)
        biases = Quantization(x.scale * weights.scale, zeros, SUMS[x.dtype], axis=0)
        constants[weight_name] = weight_integers(weight, weights)
        constants[bias_name] = _bias_integers(node, bias, biases, x)
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
    check_kernels(integer)
    return Frozen(integer, dead, _notes(fitted, calibration))


def _bias_integers(
    node: Node, bias: npt.NDArray[np.float64], grid: Quantization, x: Quantization
) -> npt.NDArray[np.signedinteger[Any]]:
    nearest: npt.NDArray[np.float64] = np.round(bias / grid.scale.astype(np.float64))
    if not np.all(np.abs(nearest) < LARGEST_SUM[x.dtype]):
        raise UnsupportedError(
            "a bias does not fit beside its weights",
            where=node.name,
            why=f"{float(np.abs(bias).max()):.3g} is too large",
        )
    return np.asarray(nearest.astype(grid.dtype))


def _notes(fitted: Fitted, calibration: Calibration) -> tuple[str, ...]:
    notes = [
        f"sums of {name} would leave 32 bits: the weights of {count} of its channels have fewer levels"
        for name, count in fitted.limited.items()
    ]
    coarsened = {name: by for name, by in (*calibration.coarsened.items(), *fitted.coarsened.items()) if by > NOTED}
    if coarsened:
        names = ", ".join(list(coarsened)[:NAMED]) + (
            f" and {len(coarsened) - NAMED} more" if len(coarsened) > NAMED else ""
        )
        notes.append(
            f"values of {names} move less on the calibration images than a step of what they are made of: their grids "
            f"were made up to {max(coarsened.values()):.3g} times coarser, for kernels to take them"
        )
    return tuple(notes)
