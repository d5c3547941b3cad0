"""Emitters of products and smooth activations. Imported for what it registers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.emit.layers import Emitter, emits, grid_key, options_of
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    GELU,
    HardSigmoid,
    HardSwish,
    Maximum,
    Mul,
    Requantize,
    Sigmoid,
    Tanh,
    fixed_grid,
)
from edgeq.integer.graph import Quantization
from edgeq.integer.reference.elementwise import HardSigmoidLayer

__all__: list[str] = []

_CODE = schema.BuiltinOperator


@emits(Mul)
def _mul(e: Emitter, node: Node, op: Mul) -> None:
    inputs = tuple(e.index[name] for name in node.inputs)
    e.operator(_CODE.MUL, inputs, e.output(node), options_of("MulOptions", fusedActivationFunction=0), wide=4)


@emits(Requantize)
def _requantize(e: Emitter, node: Node, op: Requantize) -> None:
    _plain(e, node, _CODE.QUANTIZE, version=2)


@emits(Maximum)
def _maximum(e: Emitter, node: Node, op: Maximum) -> None:
    """XNNPACK takes no integer one, but the plain kernel is quicker than what else a PReLU can be made of: 7
    microseconds for 28 x 28 x 32 with the product before it, where two halves and their sum take 11, or 17."""
    e.operator(_CODE.MAXIMUM, tuple(e.index[name] for name in node.inputs), e.output(node),
               options_of("MaximumMinimumOptions"))  # fmt: skip


def _plain(e: Emitter, node: Node, code: int, choices: Any = None, version: int = 0) -> None:
    e.operator(code, (e.index[node.inputs[0]],), e.output(node), choices, version)


def _fixed(e: Emitter, node: Node) -> None:
    """TFLite's integer kernels have one output grid."""
    q, demanded = e.quantizations.get(node.name), fixed_grid(node.op, 16 if e.wide else 8)
    if q is not None and grid_key(q) != demanded:
        raise UnsupportedError(f"{type(node.op).__name__} with a scale of its own", where=node.name,
                               hint=f"TFLite fixes scale and zero point: {demanded}")  # fmt: skip


@emits(Sigmoid)
def _sigmoid(e: Emitter, node: Node, op: Sigmoid) -> None:
    _fixed(e, node)
    _plain(e, node, _CODE.LOGISTIC)


@emits(Tanh)
def _tanh(e: Emitter, node: Node, op: Tanh) -> None:
    _fixed(e, node)
    _plain(e, node, _CODE.TANH)


@emits(HardSigmoid)
def _hard_sigmoid(e: Emitter, node: Node, op: HardSigmoid) -> None:
    """A depthwise convolution of one tap, whatever the shape; its output's grid ends where the hard sigmoid does,
    an int16 one above only: a ReLU (1) ends it below."""
    _fixed(e, node)
    x = e.index[node.inputs[0]]
    shape, source = e.file.tensors[x].shape, e.quantizations.get(node.inputs[0])
    channels = shape[-1]
    image = shape if len(shape) == 4 else (1, 1, math.prod(shape[:-1]), channels)
    if source is None:
        raise UnsupportedError("a hard sigmoid alone has no float form in TFLite", where=node.name)
    layer, zero = HardSigmoidLayer.reading(source), np.zeros((), np.int32)
    w = e.constant("weight", np.full((1, 1, 1, channels), layer.weight, np.int8), Quantization(layer.scale, zero))  # type: ignore[arg-type]
    biases = Quantization(source.scale * layer.scale, zero, e.sums)
    b = e.constant("bias", np.full(channels, layer.bias, e.sums), biases)
    y = e.output(node) if image == shape else e.activation(f"{node.name}/image", image, e.quantizations[node.name])
    chosen = options_of("DepthwiseConv2DOptions", padding=schema.Padding.VALID, strideH=1, strideW=1,
                        depthMultiplier=1, dilationHFactor=1, dilationWFactor=1,
                        fusedActivationFunction=int(e.wide))  # fmt: skip
    e.operator(_CODE.DEPTHWISE_CONV_2D, (e.shaped(x, image, f"{node.name}/in"), w, b), y, chosen, 3, wide=5)
    if image != shape:
        e.operator(_CODE.RESHAPE, (y, e.numbers(shape)), e.output(node), None, 1)


@emits(HardSwish)
def _hard_swish(e: Emitter, node: Node, op: HardSwish) -> None:
    if e.dtype != "float32":
        raise UnsupportedError("HardSwish has no TFLite form here", where=node.name, hint="lower it with `optimize`")
    _plain(e, node, _CODE.HARD_SWISH)


@emits(GELU)
def _gelu(e: Emitter, node: Node, op: GELU) -> None:
    _plain(e, node, _CODE.GELU, options_of("GeluOptions", approximate=op.approximate), 2)
