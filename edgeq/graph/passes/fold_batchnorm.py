"""Batch norm in inference is a scale and a shift per channel: into the convolution or linear layer before it.

    w' = w * gamma / sqrt(variance + eps)        b' = beta + (b - mean) * gamma / sqrt(variance + eps)

Where nothing before it can take them (behind a layer norm), the layer after it does, if it is the only reader and does
not pad a shifted value with zeros:

    w' = w * scale (of its input channels)        b' = b + sum of w * shift

What is left becomes a depthwise 1x1 convolution. Afterwards no BatchNorm is left, and no Affine, which is a scale and a
shift from the start.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Affine, BatchNorm, Conv2d, ConvTranspose2d, Linear, Reshape
from edgeq.graph.passes._edit import Edit

__all__ = ["fold_batchnorm"]

Doubles = npt.NDArray[np.float64]


def fold_batchnorm(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(BatchNorm, Affine):
        before = edit.producer(node.inputs[0])
        if before is not None and isinstance(before.op, (BatchNorm, Affine)):
            continue  # next round, when that one is part of a layer
        scale, shift = _affine(graph, node)
        takes = (
            before is not None
            and isinstance(before.op, (Conv2d, ConvTranspose2d, Linear))
            and before.op.activation is None
        )
        after = edit.only_reader(node.name)
        if any(layer is not None and edit.touched(layer) for layer in (before, after)):
            continue
        if before is not None and takes and _constant(graph, before) and edit.only_reader(before.name) is node:
            _into(edit, before, node, scale, shift)
        elif after is not None and _takes_over(graph, after, shift):
            _into_next(edit, after, node, scale, shift)
        else:
            _depthwise(edit, node, scale, shift)
    return edit.done()


def _constant(graph: Graph, node: Node) -> bool:
    return all(name in graph.constants for name in node.inputs[1:])


def _affine(graph: Graph, node: Node) -> tuple[Doubles, Doubles]:
    """(scale, shift) per channel, in double precision."""
    constants = [graph.constants[name].astype(np.float64) for name in node.inputs[1:]]
    if not isinstance(node.op, BatchNorm):
        scale, shift = constants
        return scale, shift
    gamma, beta, mean, variance = constants
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + node.op.eps)
        shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise UnsupportedError(
            "batch norm has statistics that are not finite",
            where=node.name,
            why="a running variance is negative or a value is NaN",
            hint="is the checkpoint whole?",
        )
    return scale, shift


def _into(edit: Edit, node: Node, norm: Node, scale: Doubles, shift: Doubles) -> None:
    constants = edit.graph.constants
    weight = constants[node.inputs[1]].astype(np.float64)
    bias = constants[node.inputs[2]].astype(np.float64) if len(node.inputs) == 3 else 0.0
    weight_name = edit.constant(node.inputs[1], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), node)
    bias_name = node.inputs[2] if len(node.inputs) == 3 else f"{node.name}.bias"
    bias_name = edit.constant(bias_name, shift + bias * scale, node)
    edit.replace(node, Node(node.name, node.op, (node.inputs[0], weight_name, bias_name)))
    edit.forward(norm.name, node.name)


def _takes_over(graph: Graph, node: Node, shift: Doubles) -> bool:
    """Can this reader start with a scale and this shift?"""
    return node.op.is_layer and _constant(graph, node) and not (node.op.pads and np.any(shift))


def _into_next(edit: Edit, node: Node, norm: Node, scale: Doubles, shift: Doubles) -> None:
    constants = edit.graph.constants
    weight = constants[node.inputs[1]].astype(np.float64)
    bias = constants[node.inputs[2]].astype(np.float64) if len(node.inputs) == 3 else 0.0
    groups = len(scale) // weight.shape[1]
    # Row o of these holds what the input channels that filter o reads are scaled and shifted by.
    rows = [np.repeat(v.reshape(groups, -1), len(weight) // groups, axis=0) for v in (scale, shift)]
    scales, shifts = (row.reshape(*row.shape, *[1] * (weight.ndim - 2)) for row in rows)
    weight_name = edit.constant(node.inputs[1], weight * scales, node)
    bias_name = node.inputs[2] if len(node.inputs) == 3 else f"{node.name}.bias"
    bias_name = edit.constant(bias_name, bias + (weight * shifts).reshape(len(weight), -1).sum(1), node)
    edit.replace(node, Node(node.name, node.op, (norm.inputs[0], weight_name, bias_name)))


def _depthwise(edit: Edit, node: Node, scale: Doubles, shift: Doubles) -> None:
    shape, channels = edit.graph.shapes[node.inputs[0]], len(scale)
    weight = edit.constant(f"{node.name}.weight", scale.reshape(channels, 1, 1, 1), node)
    bias = edit.constant(f"{node.name}.bias", shift, node)
    conv = Node(node.name, replace(Conv2d(), groups=channels), (node.inputs[0], weight, bias))
    if len(shape) == 4:
        edit.replace(node, conv)
        return
    image = (channels, math.prod(shape[2:]), 1)
    edit.replace(
        node,
        Node(f"{node.name}.image", Reshape(image), (node.inputs[0],)),
        Node(f"{node.name}.scale", conv.op, (f"{node.name}.image", weight, bias)),
        Node(node.name, Reshape(shape[1:]), (f"{node.name}.scale",)),
    )
