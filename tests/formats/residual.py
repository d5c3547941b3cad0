"""A small residual network with everything a writer can trip over, float and frozen, without calibration data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    RELU,
    RELU6,
    Add,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    MaxPool2d,
    Op,
    Pad,
    Reshape,
    Slice,
    Softmax,
)
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph, Quantization
from tests.host import LARGEST

SHAPE = (1, 3, 16, 16)


def residual_network(classes: int = 10, softmax: bool = False) -> Graph:
    """Strided slice and channel padding as in the CIFAR networks, a depthwise convolution, a concat, two readers."""
    rng = np.random.default_rng(7)
    nodes: list[Node] = []
    constants: dict[str, npt.NDArray[np.float32]] = {}

    def layer(name: str, op: Op, x: str, shape: tuple[int, ...]) -> str:
        constants[f"{name}.weight"] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        return plain(name, op, x, f"{name}.weight", f"{name}.bias")

    def plain(name: str, op: Op, *inputs: str) -> str:
        nodes.append(Node(name, op, inputs))
        return name

    x = layer("conv1", Conv2d((1, 1), (1, 1, 1, 1), activation=RELU), "x", (16, 3, 3, 3))
    y = layer("layer1.0.conv1", Conv2d((2, 2), (0, 1, 0, 1), activation=RELU6), x, (32, 16, 3, 3))
    y = layer("layer1.0.conv2", Conv2d((1, 1), (1, 1, 1, 1), groups=32), y, (32, 1, 3, 3))
    short = plain("layer1.0.shortcut.slice", Slice((0, 0, 0, 0), (1, 16, 16, 16), (1, 1, 2, 2)), x)
    short = plain("layer1.0.shortcut.pad", Pad((0, 8, 0, 0), (0, 8, 0, 0)), short)
    x = plain("layer1.0.add", Add(RELU), y, short)
    pooled = plain("pool", MaxPool2d((2, 2), (2, 2)), x)
    wide = layer("fire.expand", Conv2d(activation=RELU), pooled, (16, 32, 1, 1))
    x = plain("fire.cat", Concat(1), pooled, wide)
    x = plain("fire.leaky", LeakyReLU(0.1), layer("fire.squeeze", Conv2d(), x, (24, 48, 1, 1)))
    x = plain("flatten", Reshape((24,)), plain("mean", GlobalAvgPool(), x))
    x = layer("fc", Linear(), x, (classes, 24))
    x = plain("softmax", Softmax(), x) if softmax else x
    return Graph("residual", ("x",), (x,), tuple(nodes), constants, {"x": SHAPE})


def images(count: int, seed: int = 3) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE[1:])).astype(np.float32)


def frozen(graph: Graph, limit: int = LARGEST) -> IntegerGraph:
    """Min-max ranges over a few random inputs; values that must share a quantization do."""
    import torch

    with torch.no_grad():
        every = graph.replace(outputs=tuple(node.name for node in graph.nodes))
        outputs = GraphModule(every)(torch.from_numpy(images(8)))
    values = {name: value.numpy() for name, value in zip(every.outputs, outputs, strict=True)} | {"x": images(8)}
    leader = {name: name for name in values}
    for node in graph.nodes:
        if node.op.shares_quantization:
            for name in (*node.inputs, node.name):
                old, new = leader[name], leader[node.inputs[0]]
                leader = {key: new if value == old else value for key, value in leader.items()}
    quantizations: dict[str, Quantization] = {}
    for name in values:
        group = [values[other] for other in values if leader[other] == leader[name]]
        low, high = min(0.0, *(float(v.min()) for v in group)), max(0.0, *(float(v.max()) for v in group))
        scale = np.float32((high - low) / 255)
        quantizations[name] = Quantization(np.asarray(scale), np.asarray(np.clip(round(-128 - low / scale), -128, 127)))
    constants: dict[str, npt.NDArray[np.integer]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Softmax):
            quantizations[node.name] = Quantization(np.asarray(np.float32(1 / 256)), np.asarray(-128))
        if not isinstance(node.op, (Conv2d, Linear)):
            continue
        x, w, b = node.inputs
        weight, zeros = graph.constants[w], np.zeros(len(graph.constants[w]), np.int32)
        scales = (np.abs(weight).reshape(len(weight), -1).max(1) / limit).astype(np.float32)
        quantizations[w] = Quantization(scales, zeros, "int8", 0)
        quantizations[b] = Quantization(quantizations[x].scale * scales, zeros, "int32", 0)
        constants[w] = np.round(weight / scales.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        constants[b] = np.round(graph.constants[b] / quantizations[b].scale).astype(np.int32)
    return IntegerGraph(
        graph.name, graph.inputs, graph.outputs, graph.nodes, constants, quantizations, graph.input_shapes
    )
