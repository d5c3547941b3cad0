"""TFLite operators of convolutions, linear layers and pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.formats.tflite.emit.elementwise import fused_activation_code
from edgeq.formats.tflite.emit.emitter import NHWC, Emitter, options_of
from edgeq.formats.tflite.emit.moves import pad, strided_slice
from edgeq.formats.tflite.emit.table import EMITTERS
from edgeq.formats.tflite.layout import Carriage
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.integer.graph import Quantization

__all__: list[str] = []

_CODE = schema.BuiltinOperator


def _padding(name: str) -> int:
    return int(getattr(schema.Padding, name))


@EMITTERS.rule(ops.Conv2d)
def _conv(e: Emitter, node: Node, op: ops.Conv2d) -> None:
    carriage = e.layout.carriages[node.name]
    weight = e.graph.constants[node.inputs[1]]
    quantization = e.quantizations.get(node.inputs[1])
    depthwise = op.depthwise(weight.shape)
    mirror, taps = e.layout.mirror, carriage.window.taps
    kernel = weight[:, :, :: -1 if mirror[0] else 1, :: -1 if mirror[1] else 1]
    if node.inputs[0] in e.layout.reversed_channels:
        kernel = kernel[:, ::-1]
    kernel = np.pad(kernel, ((0, 0), (0, 0), *taps))
    kernel = kernel.transpose(1, 2, 3, 0) if depthwise else kernel.transpose(NHWC)
    if depthwise and quantization is not None:
        quantization = replace(quantization, axis=3)
    x = _prepare_input(e, node, carriage)
    w = e.weight(kernel, quantization)
    b = _bias(e, node)
    options = {
        "padding": _padding(carriage.window.padding),
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
        "fusedActivationFunction": fused_activation_code(e, node, op.activation),
    }
    dilated = max(op.dilation) > 1
    version = (2 if depthwise and dilated else 1) if e.dtype == "float32" else 3
    if depthwise:
        options |= {"depthMultiplier": weight.shape[0] // op.groups}
        e.operator(
            _CODE.DEPTHWISE_CONV_2D,
            (x, w, *b),
            e.output(node),
            options_of("DepthwiseConv2DOptions", **options),
            version,
            wide=5,
        )
    else:
        version = max(version, 6) if op.groups > 1 else version
        e.operator(_CODE.CONV_2D, (x, w, *b), e.output(node), options_of("Conv2DOptions", **options), version, wide=4)


def _bias(e: Emitter, node: Node) -> tuple[int, ...]:
    """The bias as an operator's last input: the graph's, else zeros where kernels insist on one: all in integers, and
    those of float convolutions, which fail without, or crash when they are depthwise."""
    if len(node.inputs) == 3:
        return (e.constant("bias", e.graph.constants[node.inputs[2]], e.quantizations.get(node.inputs[2])),)
    outputs = len(e.graph.constants[node.inputs[1]])
    if e.dtype == "float32":
        return (e.constant("bias", np.zeros(outputs, np.float32)),) if isinstance(node.op, ops.Conv2d) else ()
    x, w = (e.quantizations[name] for name in node.inputs)
    q = Quantization(x.scale * w.scale, w.zero_point, e.sums, axis=w.axis)
    return (e.constant("bias", np.zeros(outputs, e.sums), q),)


def _prepare_input(e: Emitter, node: Node, carriage: Carriage) -> int:
    """The tensor a windowed op reads, after whatever has to come before it."""
    x = e.index[node.inputs[0]]
    if carriage.pad is not None:
        top, bottom, left, right = carriage.pad
        n, h, w, c = e.file.tensors[x].shape
        padded = e.like(x, f"{node.name}/pad", (n, h + top + bottom, w + left + right, c))
        pad(e, x, padded, [(0, 0), (top, bottom), (left, right), (0, 0)], lowest=isinstance(node.op, ops.MaxPool2d))
        return padded
    if carriage.crop is not None:
        shape = e.file.tensors[x].shape
        ranges = [range(start, size) for start, size in zip((0, *carriage.crop, 0), shape, strict=True)]
        cut = e.like(x, f"{node.name}/crop", tuple(map(len, ranges)))
        strided_slice(e, x, cut, ranges, shape)
        return cut
    return x


@EMITTERS.rule(ops.Linear)
def _linear(e: Emitter, node: Node, op: ops.Linear) -> None:
    weight = np.take(e.graph.constants[node.inputs[1]], e.layout.order(node.inputs[0]), axis=1)
    w = e.weight(weight, e.quantizations.get(node.inputs[1]))
    b = _bias(e, node)
    options = options_of("FullyConnectedOptions", fusedActivationFunction=fused_activation_code(e, node, op.activation))
    x = e.index[node.inputs[0]]
    e.operator(_CODE.FULLY_CONNECTED, (x, w, *b), e.output(node), options, 1 if e.dtype == "float32" else 5, wide=7)


@EMITTERS.rule(ops.MaxPool2d, ops.AvgPool2d)
def _pool(e: Emitter, node: Node, op: ops.MaxPool2d | ops.AvgPool2d) -> None:
    carriage = e.layout.carriages[node.name]
    x = _prepare_input(e, node, carriage)
    padding, (height, width) = _padding(carriage.window.padding), op.kernel
    options = options_of(
        "Pool2DOptions",
        padding=padding,
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=height,
        filterWidth=width,
    )
    code = _CODE.MAX_POOL_2D if isinstance(op, ops.MaxPool2d) else _CODE.AVERAGE_POOL_2D
    e.operator(code, (x,), e.output(node), options)


@EMITTERS.rule(ops.GlobalAvgPool)
def _mean(e: Emitter, node: Node, op: ops.GlobalAvgPool) -> None:
    axes = e.numbers([1, 2])
    e.operator(_CODE.MEAN, (e.index[node.inputs[0]], axes), e.output(node), options_of("ReducerOptions", keepDims=True))
