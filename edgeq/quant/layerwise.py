"""Layerwise quantization: round weights and correct biases layer by layer, beside the float network.

In execution order, a layer's weights are rounded and its bias corrected while all layers before it are already
quantized. So a layer makes up not only for its own rounding, but also for the errors that arrive at its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Clamp
from edgeq.graph.run import GraphModule
from edgeq.graph.run.memory import channels_last
from edgeq.integer.graph import Quantization
from edgeq.quant.biascorrect import bias_correction
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation
from edgeq.quant.rounding import COMPENSATED, likeness, round_layer

__all__ = ["LayerwiseResult", "quantize_layerwise"]

FLOAT = "float:"
"""Prefix of the float network's names in the graph of both networks."""

MOST, VALUES = 256, 2**27
"""The most images, and the most values of the largest activation over all of them, that are used. All images are one
batch, because a layer's statistics must be taken after all layers before it were quantized."""

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass
class LayerwiseResult:
    """The rounded weights of `COMPENSATED` bits and fewer (`constants`, float32 by name, on their grids) and what to
    add to the bias of each layer (`corrections`, ``(C_out,)`` float32 by node name)."""

    constants: Arrays = field(default_factory=dict)
    corrections: Arrays = field(default_factory=dict)


@torch.no_grad()
def quantize_layerwise(
    graph: Graph,
    activations: Mapping[str, Quantization],
    weights: Mapping[str, Quantization],
    inputs: npt.NDArray[np.float32],
    *,
    round_weights: bool = True,
    correct_bias: bool = True,
    judged: bool = False,
    beside_rounded: bool = False,
    exact: dict[str, Tensor] | None = None,
) -> LayerwiseResult:
    """Round the weights of `COMPENSATED` bits and fewer of an optimised `graph`, and correct biases.

    Other weights take their nearest integers. `inputs` are images ``(N, C, H, W) float32``; `judged` is that of
    `bias_correction`. With `beside_rounded` the float network that layers are compared with has its activations on
    their grids, which suits a network that was trained with them. `exact` holds the float network's values on all
    `inputs`, where `observe.keep_values` kept them; the call empties it.
    """
    module = GraphModule(_twins(graph, weights, alone=exact is not None)).eval()
    layers = {node.name: node for node in graph.layers()}
    clamps = {name + LINEAR: node.op.activation for name, node in layers.items() if node.op.activation}  # type: ignore[attr-defined]
    results = {name if name + LINEAR not in clamps else name + LINEAR: name for name in layers}
    readers: dict[str, list[Node]] = {}
    for node in layers.values():
        if round_weights and (weights[node.inputs[1]].bits or 8) <= COMPENSATED:
            readers.setdefault(node.inputs[0], []).append(node)
    result, exact = LayerwiseResult(), {} if exact is None else exact

    def visit(name: str, value: Tensor) -> Tensor | None:
        if name.startswith(FLOAT) or name in graph.inputs:
            followed = name.removeprefix(FLOAT)
            if beside_rounded and followed in activations:
                value = fake_quantize(value, activations[followed])
            exact[followed] = value
            return value
        name = name.removesuffix(ENTRY)
        want = exact.pop(name)
        if name in results and correct_bias:
            shift = bias_correction(want, value, clamps.get(name), judged=judged)
            result.corrections[results[name]] = shift.numpy().astype(np.float32)
            value = value + shift.view(1, -1, *([1] * (value.dim() - 2)))
        if name in activations:
            value = fake_quantize(value, activations[name])
        for node in readers.get(name, ()):
            weight = node.inputs[1]
            # Below 8 bits most of the rounding error is noise of these images: compensating it would fit only them.
            source = value if _fine(activations.get(name)) else want
            alike, cross, count = likeness(node, graph.constants[weight].shape, source, want)
            chosen = round_layer(graph.constants[weight], weights[weight], alike, count, cross)
            result.constants[weight] = chosen
            # This weight is a copy that `simulation` made, not the graph's own.
            module.constant(weight).copy_(torch.from_numpy(chosen))
        return value

    widest = max(math.prod(graph.shapes[node.name]) for node in graph.nodes)
    module.run(
        channels_last(torch.from_numpy(inputs[: min(MOST, max(1, VALUES // widest))])),
        visit=visit,
    )
    return result


def _fine(grid: Quantization | None) -> bool:
    return grid is None or grid.bits is None


ENTRY = "/grid"
"""Suffix of the quantized network's own copy of the input, which is rounded; the float network's is not."""


def _twins(graph: Graph, weights: Mapping[str, Quantization], *, alone: bool) -> Graph:
    """Both networks in one graph, node beside node, so that few values wait for their partner; with `alone` only the
    quantized one."""
    rounded = simulation(graph, weights)
    nodes = [Node(name + ENTRY, Clamp(-np.inf, np.inf), (name,)) for name in graph.inputs]
    entry = {name: name + ENTRY for name in graph.inputs}
    for node in rounded.nodes:
        inputs = tuple(name if name in graph.inputs else FLOAT + name for name in node.inputs)
        nodes += [] if alone else [Node(FLOAT + node.name, node.op, inputs)]
        nodes.append(Node(node.name, node.op, tuple(entry.get(name, name) for name in node.inputs)))
    plain = {} if alone else {FLOAT + name: array for name, array in graph.constants.items()}
    return graph.replace(nodes=tuple(nodes), constants=plain | dict(rounded.constants))
