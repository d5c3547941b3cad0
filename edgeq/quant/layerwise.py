"""The float network and its quantized twin, run side by side: each layer settled on what really reaches it.

In execution order, a layer's weights are rounded and its bias corrected while all layers before it are already what
they will be on the device. So a layer makes up not only for its own rounding, but for errors that arrive.
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
from edgeq.integer.graph import Quantization
from edgeq.quant.biascorrect import bias_correction
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation
from edgeq.quant.rounding import COMPENSATED, likeness, round_layer

__all__ = ["Settled", "settle"]

FLOAT = "float:"
"""Prefix of the float twin's names."""

MOST, VALUES = 256, 2**27
"""Images, and values of the largest activation over all of them: every layer's statistics must see the layers before it
settled, so the set is one batch."""

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass
class Settled:
    """`constants`: weights of `COMPENSATED` bits and fewer, on the points of their grids chosen for them, by name.
    `corrections`: what to add to the bias of each layer, ``(C_out,)`` by node name."""

    constants: Arrays = field(default_factory=dict)
    corrections: Arrays = field(default_factory=dict)


@torch.no_grad()
def settle(
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
) -> Settled:
    """Round the weights of `COMPENSATED` bits and fewer of an optimised `graph`, and correct biases; see
    `bias_correction` for `judged`. Other weights take their nearest integers. With `beside_rounded`, the twin that is
    followed has its activations on their grids too: a network trained to live with them, whose weights alone are to be
    rounded. `exact` are the float network's values on all `inputs`, where they were kept (`observe.kept`); they are
    used up."""
    module = GraphModule(_twins(graph, weights, alone=exact is not None)).eval()
    layers = {node.name: node for node in graph.layers()}
    clamps = {name + LINEAR: node.op.activation for name, node in layers.items() if node.op.activation}  # type: ignore[attr-defined]
    results = {name if name + LINEAR not in clamps else name + LINEAR: name for name in layers}
    readers: dict[str, list[Node]] = {}
    for node in layers.values():
        if round_weights and (weights[node.inputs[1]].bits or 8) <= COMPENSATED:
            readers.setdefault(node.inputs[0], []).append(node)
    made, exact = Settled(), {} if exact is None else exact

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
            made.corrections[results[name]] = shift.numpy().astype(np.float32)
            value = value + shift.view(1, -1, *([1] * (value.dim() - 2)))
        if name in activations:
            value = fake_quantize(value, activations[name])
        for node in readers.get(name, ()):
            weight = node.inputs[1]
            # Rounding to fewer bits is noise of these images above all: making up for it would fit them and no others.
            arriving = value if _fine(activations.get(name)) else want
            alike, cross, count = likeness(node, graph.constants[weight].shape, arriving, want)
            chosen = round_layer(graph.constants[weight], weights[weight], alike, count, cross)
            made.constants[weight] = chosen
            # `simulation` made this weight anew: it is not the graph's own.
            module.constant(weight).copy_(torch.from_numpy(chosen))
        return value

    widest = max(math.prod(graph.shapes[node.name]) for node in graph.nodes)
    module.run(
        torch.from_numpy(inputs[: min(MOST, max(1, VALUES // widest))]).to(memory_format=torch.channels_last),
        visit=visit,
    )
    return made


def _fine(grid: Quantization | None) -> bool:
    return grid is None or grid.bits is None


ENTRY = "/grid"
"""Suffix of the twin's own copy of the input, which its grid rounds and the float network's must not."""


def _twins(graph: Graph, weights: Mapping[str, Quantization], *, alone: bool) -> Graph:
    """Both networks in one graph, node beside node, so that no value waits long for its partner; or the rounded one."""
    rounded = simulation(graph, weights)
    nodes = [Node(name + ENTRY, Clamp(-np.inf, np.inf), (name,)) for name in graph.inputs]
    entry = {name: name + ENTRY for name in graph.inputs}
    for node in rounded.nodes:
        inputs = tuple(name if name in graph.inputs else FLOAT + name for name in node.inputs)
        nodes += [] if alone else [Node(FLOAT + node.name, node.op, inputs)]
        nodes.append(Node(node.name, node.op, tuple(entry.get(name, name) for name in node.inputs)))
    plain = {} if alone else {FLOAT + name: array for name, array in graph.constants.items()}
    return graph.replace(nodes=tuple(nodes), constants=plain | dict(rounded.constants))
