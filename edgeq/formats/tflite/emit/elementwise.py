"""TFLite operators of sums, products, clamps and activation functions.

Functions that TFLite has no integer kernel for are looked up in tables of 256. (There is an int8 ELU, but no reference
kernel of it.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import TargetLimitError
from edgeq.formats.tflite.emit.emitter import Emitter, grid_key, options_of
from edgeq.formats.tflite.emit.table import EMITTERS
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import Clamp, OpTable
from edgeq.integer.graph import Quantization
from edgeq.integer.reference.elementwise import HardSigmoidLayer, answers

__all__ = ["UNFUSED", "check_grid", "fused_activation_code"]

_CODE = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType
_OPTIONS = {_CODE.ADD: schema.AddOptionsT, _CODE.MUL: schema.MulOptionsT}

FUSED: dict[Clamp | None, int] = {
    None: _FUSED.NONE,
    ops.RELU: _FUSED.RELU,
    ops.RELU6: _FUSED.RELU6,
    Clamp(-1.0, 1.0): _FUSED.RELU_N1_TO_1,
}
UNFUSED = (ops.UNIT, ops.NEGATIVE)
"""Clamps no operator can end with, but an integer grid can."""
STANDALONE: dict[Clamp, int] = {
    ops.RELU: _CODE.RELU,
    ops.RELU6: _CODE.RELU6,
    ops.UNIT: _CODE.RELU_0_TO_1,
    Clamp(-1.0, 1.0): _CODE.RELU_N1_TO_1,
}

FLOAT_FORMS: OpTable[Callable[[Emitter, Node, Any], None]] = OpTable("has no float form in TFLite")
"""Float operators of the functions that integers look up in a table."""


def fused_activation_code(e: Emitter, node: Node, clamp: Clamp | None) -> int:
    """The option that says which activation an operator ends with: none where the output's grid ends with it, ReLU
    where an int16 grid ends above with it."""
    q = e.quantizations.get(node.name)
    if e.wide and clamp == ops.NEGATIVE:
        return int(_FUSED.NONE)
    if clamp in UNFUSED and q is not None:
        ends = [q.dequantize(np.asarray(k)) for k in q.limits]
        if ends[1] <= np.float32(clamp.maximum * (1 + 1e-6)):
            if ends[0] >= clamp.minimum:
                return int(_FUSED.NONE)
            if clamp.minimum == 0:
                return int(_FUSED.RELU)
    if clamp is not None and clamp not in FUSED:
        raise TargetLimitError(
            f"{type(node.op).__name__} with a fused clamp to [{clamp.minimum}, {clamp.maximum}]",
            where=node.name,
            hint="leave the clamp a node of its own",
        )
    return FUSED[clamp]


def _within(q: Quantization, clamp: Clamp) -> bool:
    """Whether no integer of the grid lies beyond the clamp."""
    low, high = (q.dequantize(np.asarray(k)) for k in q.limits)
    return bool(clamp.minimum <= low and high <= np.float32(clamp.maximum * (1 + 1e-6)))


@EMITTERS.rule(ops.Add)
def _add(e: Emitter, node: Node, op: ops.Add) -> None:
    inputs = tuple(e.index[name] for name in node.inputs)
    # The flag only concerns int16, where true asks for power-of-two scales.
    options = options_of(
        "AddOptions", fusedActivationFunction=fused_activation_code(e, node, op.activation), potScaleInt16=False
    )
    e.operator(_CODE.ADD, inputs, e.output(node), options, wide=3)


@EMITTERS.rule(ops.Clamp)
def _clamp(e: Emitter, node: Node, op: Clamp) -> None:
    x, q = e.index[node.inputs[0]], e.quantizations.get(node.name)
    if q is not None and not e.wide and _within(q, op):
        # Saturation does it, and what is left is a change of grid: XNNPACK has a leaky ReLU of slope 1 for that, and
        # leaves a RELU that rescales to the plain kernel, which takes seven times as long as all around it.
        e.operator(_CODE.LEAKY_RELU, (x,), e.output(node), options_of("LeakyReluOptions", alpha=1.0))
        return
    if e.wide and op == ops.UNIT and grid_key(e.quantizations.get(node.name)) == op.fixed_grid(16):
        e.operator(_CODE.RELU, (x,), e.output(node))  # the grid ends at 1
        return
    if op in STANDALONE and not (e.wide and op not in (ops.RELU, ops.RELU6)):
        e.operator(STANDALONE[op], (x,), e.output(node), None, 1 if op not in (ops.RELU, ops.RELU6) else 0)
        return
    if grid_key(e.quantizations.get(node.inputs[0])) != grid_key(e.quantizations.get(node.name)):
        raise TargetLimitError(
            f"Clamp to [{op.minimum}, {op.maximum}] would have to rescale",
            where=node.name,
            hint="use ReLU or ReLU6, or give input and output one quantization",
        )
    limits = [(_CODE.MAXIMUM, op.minimum, "minimum"), (_CODE.MINIMUM, op.maximum, "maximum")]
    limits = [limit for limit in limits if math.isfinite(limit[1])]
    if not limits:
        raise TargetLimitError("Clamp without a limit does nothing", where=node.name, hint="remove it")
    for place, (code, value, kind) in enumerate(limits):
        data = np.asarray(value, np.float32) if q is None else q.quantize(np.asarray(value, np.float32))
        limit = e.constant(kind, np.asarray(data), q)
        last = place == len(limits) - 1
        y = e.output(node) if last else e.like(x, f"{node.name}/limited", e.file.tensors[x].shape)
        e.operator(code, (x, limit), y)
        x = y


@EMITTERS.rule(ops.LeakyReLU)
def _leaky_relu(e: Emitter, node: Node, op: ops.LeakyReLU) -> None:
    e.operator(
        _CODE.LEAKY_RELU,
        (e.index[node.inputs[0]],),
        e.output(node),
        options_of("LeakyReluOptions", alpha=op.slope),
        wide=2,
    )


@EMITTERS.rule(ops.Mul)
def _mul(e: Emitter, node: Node, op: ops.Mul) -> None:
    inputs = tuple(e.index[name] for name in node.inputs)
    e.operator(_CODE.MUL, inputs, e.output(node), options_of("MulOptions", fusedActivationFunction=0), wide=4)


@EMITTERS.rule(ops.Requantize)
def _requantize(e: Emitter, node: Node, op: ops.Requantize) -> None:
    _plain(e, node, _CODE.QUANTIZE, version=2)


@EMITTERS.rule(ops.Maximum)
def _maximum(e: Emitter, node: Node, op: ops.Maximum) -> None:
    """XNNPACK takes no integer one, but the plain kernel is quicker than what else a PReLU can be made of: 7
    microseconds for 28 x 28 x 32 with the product before it, where two halves and their sum take 11, or 17."""
    e.operator(
        _CODE.MAXIMUM, tuple(e.index[name] for name in node.inputs), e.output(node), options_of("MaximumMinimumOptions")
    )


def _plain(e: Emitter, node: Node, code: int, choices: Any = None, version: int = 0) -> None:
    e.operator(code, (e.index[node.inputs[0]],), e.output(node), choices, version)


def check_grid(e: Emitter, node: Node, name: str = "") -> None:
    """Raise `UnsupportedError` for an output that is not on the one grid that TFLite's integer kernel has."""
    q, demanded = e.quantizations.get(node.name), node.op.fixed_grid(16 if e.wide else 8)
    if q is not None and grid_key(q) != demanded:
        raise TargetLimitError(
            f"{name or type(node.op).__name__} with a scale of its own",
            where=node.name,
            hint=f"TFLite fixes scale and zero point: {demanded}",
        )


@EMITTERS.rule(ops.Sigmoid)
def _sigmoid(e: Emitter, node: Node, op: ops.Sigmoid) -> None:
    check_grid(e, node)
    _plain(e, node, _CODE.LOGISTIC)


@EMITTERS.rule(ops.Tanh)
def _tanh(e: Emitter, node: Node, op: ops.Tanh) -> None:
    check_grid(e, node)
    _plain(e, node, _CODE.TANH)


@EMITTERS.rule(ops.HardSigmoid)
def _hard_sigmoid(e: Emitter, node: Node, op: ops.HardSigmoid) -> None:
    """A depthwise convolution of one tap, whatever the shape; its output's grid ends where the hard sigmoid does,
    an int16 one above only: a ReLU (1) ends it below."""
    check_grid(e, node)
    x = e.index[node.inputs[0]]
    shape, source = e.file.tensors[x].shape, e.quantizations.get(node.inputs[0])
    channels = shape[-1]
    image = shape if len(shape) == 4 else (1, 1, math.prod(shape[:-1]), channels)
    if source is None:
        raise TargetLimitError(
            "a hard sigmoid alone has no float form in TFLite",
            where=node.name,
            hint="TFLite has it as a part of a hard swish",
        )
    layer, zero = HardSigmoidLayer.reading(source), np.zeros((), np.int32)
    w = e.constant("weight", np.full((1, 1, 1, channels), layer.weight, np.int8), Quantization(layer.scale, zero))  # type: ignore[arg-type]
    biases = Quantization(source.scale * layer.scale, zero, e.sums)
    b = e.constant("bias", np.full(channels, layer.bias, e.sums), biases)
    y = e.output(node) if image == shape else e.activation(f"{node.name}/image", image, e.quantizations[node.name])
    chosen = options_of(
        "DepthwiseConv2DOptions",
        padding=schema.Padding.VALID,
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
        fusedActivationFunction=int(e.wide),
    )
    e.operator(_CODE.DEPTHWISE_CONV_2D, (e.shaped(x, image, f"{node.name}/in"), w, b), y, chosen, 3, wide=5)
    if image != shape:
        e.operator(_CODE.RESHAPE, (y, e.numbers(shape)), e.output(node), None, 1)


@EMITTERS.rule(ops.HardSwish)
def _hard_swish(e: Emitter, node: Node, op: ops.HardSwish) -> None:
    if e.dtype != "float32":
        raise TargetLimitError("HardSwish has no TFLite form here", where=node.name, hint=op.lowering)
    _plain(e, node, _CODE.HARD_SWISH)


@EMITTERS.rule(ops.GELU)
def _gelu(e: Emitter, node: Node, op: ops.GELU) -> None:
    _plain(e, node, _CODE.GELU, options_of("GeluOptions", approximate=op.approximate), 2)


@EMITTERS.rule(ops.Tabulated)
def _tabulated(e: Emitter, node: Node, op: ops.Tabulated) -> None:
    (FLOAT_FORMS.get(op, node.name) if e.dtype == "float32" else _look_up)(e, node, op)


@FLOAT_FORMS.rule(ops.ELU)
def _elu(e: Emitter, node: Node, op: ops.ELU) -> None:
    x = e.index[node.inputs[0]]
    if op == ops.ELU():
        e.operator(_CODE.ELU, (x,), e.output(node))
        return
    below = _float(
        e, node, _CODE.ELU, _float(e, node, _CODE.MINIMUM, _float(e, node, _CODE.MUL, x, op.input_scale), 0.0)
    )
    below = _float(e, node, _CODE.MUL, below, op.alpha * op.scale)
    above = _float(e, node, _CODE.MUL, _float(e, node, _CODE.RELU, x), op.scale)
    e.operator(_CODE.ADD, (above, below), e.output(node), options_of("AddOptions"))


@FLOAT_FORMS.rule(ops.Softplus)
def _softplus(e: Emitter, node: Node, op: ops.Softplus) -> None:
    e.operator(_CODE.ADD, _halves(e, node), e.output(node), options_of("AddOptions"))


@FLOAT_FORMS.rule(ops.Mish)
def _mish(e: Emitter, node: Node, op: ops.Mish) -> None:
    x = e.index[node.inputs[0]]
    total = e.like(x, f"{node.name}/softplus", e.file.tensors[x].shape)
    e.operator(_CODE.ADD, _halves(e, node), total, options_of("AddOptions"))
    e.operator(_CODE.MUL, (x, _float(e, node, _CODE.TANH, total)), e.output(node), options_of("MulOptions"))


@FLOAT_FORMS.rule(ops.Exp)
def _exp(e: Emitter, node: Node, op: ops.Exp) -> None:
    _plain(e, node, _CODE.EXP)


@FLOAT_FORMS.rule(ops.Log)
def _log(e: Emitter, node: Node, op: ops.Log) -> None:
    _plain(e, node, _CODE.LOG)


@FLOAT_FORMS.rule(ops.Sin)
def _sin(e: Emitter, node: Node, op: ops.Sin) -> None:
    _plain(e, node, _CODE.SIN)


@FLOAT_FORMS.rule(ops.Power)
def _power(e: Emitter, node: Node, op: ops.Power) -> None:
    """A root or an inverse where it is one: the quickest of their kernels."""
    x = e.index[node.inputs[0]]
    if op.exponent == 0.5:
        _plain(e, node, _CODE.SQRT)
    elif op.exponent == -1:
        one = e.constant("one", np.asarray(1, np.float32))
        e.operator(_CODE.DIV, (one, x), e.output(node), options_of("DivOptions"))
    else:
        exponent = e.constant("exponent", np.asarray(op.exponent, np.float32))
        e.operator(_CODE.POW, (x, exponent), e.output(node))


def _look_up(e: Emitter, node: Node, op: ops.Unary) -> None:
    """Places from 0 to 255, and a gathering of them."""
    if e.wide:
        raise TargetLimitError(
            f"{type(op).__name__} of 16-bit activations",
            where=node.name,
            why="TFLite has no such kernel",
            hint="use a8, or GELU or SiLU" if op.activation_function else "use a8",
        )
    x = e.index[node.inputs[0]]
    shape = e.file.tensors[x].shape
    signed = e.activation(f"{node.name}/signed", shape, None, "int32")
    places = e.activation(f"{node.name}/places", shape, None, "int32")
    source, output = e.quantizations[node.inputs[0]], e.quantizations[node.name]
    table = e.constant("table", answers(op, source, output), output)
    e.operator(_CODE.CAST, (x,), signed, None, 1)
    e.operator(_CODE.ADD, (signed, e.numbers(128)), places, options_of("AddOptions"), 1)
    e.operator(_CODE.GATHER, (table, places), e.output(node), options_of("GatherOptions", axis=0))


def _halves(e: Emitter, node: Node) -> tuple[int, int]:
    """``relu(x)`` and ``log(1 + exp(-|x|))``, whose sum is a softplus that overflows nowhere."""
    x = e.index[node.inputs[0]]
    power = _float(e, node, _CODE.EXP, _float(e, node, _CODE.MUL, _float(e, node, _CODE.ABS, x), -1.0))
    return _float(e, node, _CODE.RELU, x), _float(e, node, _CODE.LOG, _float(e, node, _CODE.ADD, power, 1.0))


def _float(e: Emitter, node: Node, code: int, x: int, number: float | None = None) -> int:
    """The result of a float op, of a number, too, where one is given."""
    y = e.like(x, f"{node.name}/{len(e.file.tensors)}", e.file.tensors[x].shape)
    inputs = (x,) if number is None else (x, e.constant("number", np.asarray(number, np.float32)))
    e.operator(code, inputs, y, _OPTIONS[code]() if code in _OPTIONS else None)
    return y
