"""ONNX nodes of sums, products, clamps and activation functions.

onnxruntime has integer kernels for products and sigmoids and for no other of these functions. Tanh and hard sigmoid are
made of sigmoids and sums by giving integers another scale, which costs nothing: a value quantized as ``6 x / 255`` and
read as ``x / 255`` was divided by 6, and what leaves a grid saturates. GELU, ELU, softplus, Mish,
exponentials, logarithms, sines and powers are gathered from a table of 256 integers: exact, but slower (8 ns an element
against 0.3).
"""

from __future__ import annotations

import math

import numpy as np

from edgeq.errors import TargetLimitError
from edgeq.formats.onnx.context import Context, QuantizedContext
from edgeq.formats.onnx.emit.table import EMITTERS
from edgeq.formats.onnx.reference.elementwise import GATE, SIGMOID, THREE
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    ELU,
    GELU,
    Add,
    Clamp,
    Exp,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Log,
    Maximum,
    Mish,
    Mul,
    Power,
    Sigmoid,
    Sin,
    Softplus,
    Tanh,
    Unary,
)
from edgeq.integer.graph import Quantization
from edgeq.integer.reference.elementwise import answers

__all__: list[str] = []


def _check_grid(context: QuantizedContext, node: Node) -> None:
    """The forms below make integers of one grid."""
    q, demanded = context.grid(node.name), node.op.fixed_grid()
    if (float(q.scale), int(q.zero_point)) != demanded:
        raise TargetLimitError(
            f"{type(node.op).__name__} with a scale of its own",
            where=node.name,
            hint=f"its scale and zero point are {demanded}",
        )


@EMITTERS.rule(Add)
def _add(context: Context, node: Node, op: Add) -> None:
    context.compute(node, "Add", [context.real(name) for name in node.inputs], clamp=op.activation)


@EMITTERS.rule(LeakyReLU)
def _leaky_relu(context: Context, node: Node, op: LeakyReLU) -> None:
    context.compute(node, "LeakyRelu", [context.real(node.inputs[0])], alpha=float(op.slope))


@EMITTERS.rule(Clamp)
def _clamp(context: Context, node: Node, op: Clamp) -> None:
    context.clamp(node, op)


@EMITTERS.rule(Mul)
def _mul(context: Context, node: Node, op: Mul) -> None:
    context.compute(node, "Mul", [context.real(name) for name in node.inputs])


@EMITTERS.rule(Maximum)
def _maximum(context: Context, node: Node, op: Maximum) -> None:
    context.move(node, "Max", list(node.inputs), [])


@EMITTERS.rule(Sigmoid)
def _sigmoid(context: Context, node: Node, op: Sigmoid) -> None:
    if isinstance(context, QuantizedContext):
        _check_grid(context, node)
    context.compute(node, "Sigmoid", [context.real(node.inputs[0])])


@EMITTERS.rule(Tanh)
def _tanh(context: Context, node: Node, op: Tanh) -> None:
    """``tanh(x) = 2 sigmoid(2 x) - 1``: a sigmoid's integers, read on the grid of a tanh."""
    (value,) = node.inputs
    if not isinstance(context, QuantizedContext):
        context.compute(node, "Tanh", [context.real(value)])
        return
    _check_grid(context, node)
    q = context.grid(value)
    twice = context.read(context.integers(value), Quantization(np.float32(2) * q.scale, q.zero_point))
    sigmoid = context.builder.node("Sigmoid", [twice], name=node.name)
    context.hand_over(context.put(sigmoid, SIGMOID, context.place(node.name)), node.name)


@EMITTERS.rule(HardSigmoid)
def _hard_sigmoid(context: Context, node: Node, op: HardSigmoid) -> None:
    """``relu6(x + 3) / 6``: a sum that saturates at 0 and 6, and a sixth of it by another scale."""
    (value,) = node.inputs
    if not isinstance(context, QuantizedContext):
        context.compute(node, "HardSigmoid", [context.real(value)], alpha=1 / 6, beta=0.5)
        return
    _check_grid(context, node)
    total = context.builder.node("Add", [context.real(value), context.read(context.scalar(1), THREE)], name=node.name)
    context.hand_over(context.put(total, GATE, context.place(node.name)), node.name)


@EMITTERS.rule(HardSwish)
def _hard_swish(context: Context, node: Node, op: HardSwish) -> None:
    context.compute(node, "HardSwish", [context.real(node.inputs[0])])


@EMITTERS.rule(GELU)
def _gelu(context: Context, node: Node, op: GELU) -> None:
    (value,) = node.inputs
    if isinstance(context, QuantizedContext):
        context.look_up(node, answers(op, context.grid(value), context.grid(node.name)))
        return
    make, x = context.builder.node, context.real(value)

    def number(real: float) -> str:
        return context.builder.constant(np.array(real, np.float32))

    if op.approximate:
        cube = make("Mul", [make("Mul", [x, make("Mul", [x, x])]), number(0.044715)])
        bent = make("Tanh", [make("Mul", [make("Add", [x, cube]), number(math.sqrt(2 / math.pi))])])
    else:
        bent = make("Erf", [make("Div", [x, number(math.sqrt(2))])])
    doubled = make("Mul", [x, make("Add", [bent, number(1)])])
    context.compute(node, "Mul", [doubled, number(0.5)])


@EMITTERS.rule(ELU)
def _elu(context: Context, node: Node, op: ELU) -> None:
    if _emit_table(context, node, op):
        return
    make, x = context.builder.node, context.real(node.inputs[0])
    if op.input_scale == 1:
        context.compute(node, "Selu", [x], alpha=op.alpha, gamma=op.scale)
        return
    factor, scale, zero = (
        context.builder.constant(np.array(number, np.float32)) for number in (op.input_scale, op.scale, 0)
    )
    below = make("Elu", [make("Min", [make("Mul", [x, factor]), zero])], alpha=op.alpha)
    context.compute(node, "Mul", [make("Add", [make("Relu", [x]), below]), scale])


@EMITTERS.rule(Softplus)
def _softplus(context: Context, node: Node, op: Softplus) -> None:
    if not _emit_table(context, node, op):
        context.compute(node, "Softplus", [context.real(node.inputs[0])])


@EMITTERS.rule(Mish)
def _mish(context: Context, node: Node, op: Mish) -> None:
    if not _emit_table(context, node, op):
        context.compute(node, "Mish", [context.real(node.inputs[0])])


@EMITTERS.rule(Exp)
def _exp(context: Context, node: Node, op: Exp) -> None:
    if not _emit_table(context, node, op):
        context.compute(node, "Exp", [context.real(node.inputs[0])])


@EMITTERS.rule(Log)
def _log(context: Context, node: Node, op: Log) -> None:
    if not _emit_table(context, node, op):
        context.compute(node, "Log", [context.real(node.inputs[0])])


@EMITTERS.rule(Sin)
def _sin(context: Context, node: Node, op: Sin) -> None:
    if not _emit_table(context, node, op):
        context.compute(node, "Sin", [context.real(node.inputs[0])])


@EMITTERS.rule(Power)
def _power(context: Context, node: Node, op: Power) -> None:
    if _emit_table(context, node, op):
        return
    x = context.real(node.inputs[0])
    named = {0.5: "Sqrt", -1.0: "Reciprocal"}.get(op.exponent)
    if named is not None:
        context.compute(node, named, [x])
    else:
        context.compute(node, "Pow", [x, context.builder.constant(np.array(op.exponent, np.float32))])


def _emit_table(context: Context, node: Node, op: Unary) -> bool:
    """Whether it was made by a table, as in integers it is."""
    if isinstance(context, QuantizedContext):
        context.look_up(node, answers(op, context.grid(node.inputs[0]), context.grid(node.name)))
        return True
    return False
