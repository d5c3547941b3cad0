"""Rules for ATen calls that compute value by value: arithmetic of two values or with constants, and activations.

Arithmetic with a constant is an `Affine`, which folds into the layer before it; what is left is made of few kinds:
a difference is a sum, SiLU a sigmoid and a product, a hard sigmoid an affine and a clamp, hard swish its own kind.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.channels import as_channels
from edgeq.graph.ops import ELU, GELU, Affine, HardSwish, Maximum, Mish, Mul, Sigmoid, Softplus, Tanh

__all__ = ["Operand", "affine", "product", "quotient", "sum_of", "times"]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
SOFTPLUS_THRESHOLD = 10
"""From here on it differs from its input by less than 5e-5."""

Operand = Value | Constant | float


@aten("add", "add_", anywhere=True)
def _add(call: Call) -> Value:
    return sum_of(call, call["self"], times(call, call["other"], call.get("alpha", 1)))


@aten("sub", "sub_", "subtract", anywhere=True)
def _sub(call: Call) -> Value:
    return sum_of(call, call["self"], times(call, call["other"], -call.get("alpha", 1)))


@aten("rsub", anywhere=True)
def _rsub(call: Call) -> Value:
    return sum_of(call, call["other"], times(call, call["self"], -call.get("alpha", 1)))


@aten("neg", "neg_", anywhere=True)
def _neg(call: Call) -> Value:
    return affine(call, call.value(), -1.0, 0.0)


@aten("mul", "mul_", "multiply", anywhere=True)
def _mul(call: Call) -> Value:
    return product(call, call["self"], call["other"])


def product(call: Call, left: Operand, right: Operand) -> Value:
    """Two activations multiplied, or an activation and a number or constants."""
    value, factor = (left, right) if isinstance(left, Value) else (right, left)
    if isinstance(factor, Value) or _varies(call.activation(value), factor):
        return call.emit(Mul(), *_pair(call, left, right))  # type: ignore[arg-type]
    return affine(call, call.activation(value), factor, 0.0)


@aten("div", "div_", "divide", "true_divide", anywhere=True)
def _div(call: Call) -> Value:
    if call.get("rounding_mode") is not None:
        raise call.unsupported("it divides to whole numbers", "divide without rounding_mode")
    return quotient(call, call["self"], call["other"])


def quotient(call: Call, dividend: Operand, divisor: Operand) -> Value:
    """A product with the inverse, which no runtime has an integer kernel for: a table of 256."""
    if isinstance(divisor, Value):
        inverse = call.emit(ops.Power(-1.0), call.activation(divisor), label="inverse")
        return product(call, dividend, inverse)
    if isinstance(divisor, Constant):
        return product(call, dividend, Constant(divisor.name, 1 / divisor.tensor))
    return product(call, dividend, 1 / float(divisor))


@aten("relu", "relu_", anywhere=True)
def _relu(call: Call) -> Value:
    return call.emit(ops.RELU, call.value(), label="relu")


@aten("relu6", "relu6_", anywhere=True)
def _relu6(call: Call) -> Value:
    return call.emit(ops.RELU6, call.value(), label="relu6")


@aten("hardtanh", "hardtanh_", anywhere=True)
def _hardtanh(call: Call) -> Value:
    op = ops.Clamp(float(call["min_val"]), float(call["max_val"]))
    return call.emit(op, call.value(), label="relu6" if op == ops.RELU6 else "")


@aten("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_", anywhere=True)
def _clamp(call: Call) -> Value:
    limits = [_limit(call, call.get("min", -math.inf)), _limit(call, call.get("max", math.inf))]
    return call.emit(ops.Clamp(float(limits[0]), float(limits[1])), call.value())


def _limit(call: Call, given: Operand) -> float:
    if isinstance(given, Constant) and given.tensor.numel() == 1:
        return float(given.tensor)
    if isinstance(given, (Constant, Value)):
        raise call.unsupported("its limits are tensors", "clamp between two numbers, or use torch.maximum")
    return float(given)


@aten("leaky_relu", "leaky_relu_", anywhere=True)
def _leaky_relu(call: Call) -> Value:
    return call.emit(ops.LeakyReLU(float(call["negative_slope"])), call.value())


@aten("sigmoid", "sigmoid_", anywhere=True)
def _sigmoid(call: Call) -> Value:
    return call.emit(Sigmoid(), call.value())


@aten("tanh", "tanh_", anywhere=True)
def _tanh(call: Call) -> Value:
    return call.emit(Tanh(), call.value())


@aten("hardswish", "hardswish_", anywhere=True)
def _hardswish(call: Call) -> Value:
    return call.emit(HardSwish(), call.value())


@aten("gelu", "gelu_", anywhere=True)
def _gelu(call: Call) -> Value:
    return call.emit(GELU(call.get("approximate", "none") == "tanh"), call.value())


@aten("elu", "elu_", anywhere=True)
def _elu(call: Call) -> Value:
    numbers = (float(call.get(name, 1.0)) for name in ("alpha", "scale", "input_scale"))
    return call.emit(ELU(*numbers), call.value())


@aten("selu", "selu_", anywhere=True)
def _selu(call: Call) -> Value:
    return call.emit(ELU(SELU_ALPHA, SELU_SCALE), call.value(), label="selu")


@aten("celu", "celu_", anywhere=True)
def _celu(call: Call) -> Value:
    alpha = float(call.get("alpha", 1.0))
    return call.emit(ELU(alpha, 1.0, 1 / alpha), call.value(), label="celu")


@aten("mish", "mish_", anywhere=True)
def _mish(call: Call) -> Value:
    return call.emit(Mish(), call.value())


@aten("softplus", anywhere=True)
def _softplus(call: Call) -> Value:
    beta, threshold = float(call.get("beta", 1.0)), float(call.get("threshold", 20.0))
    if threshold < SOFTPLUS_THRESHOLD:
        raise call.unsupported(
            f"it is linear from {threshold:g} on", f"use a threshold of {SOFTPLUS_THRESHOLD} or more"
        )
    value = call.value() if beta == 1 else affine(call, call.value(), beta, 0.0, "beta")
    output = call.emit(Softplus(), value)
    return output if beta == 1 else affine(call, output, 1 / beta, 0.0, "beta")


@aten("log_sigmoid", "log_sigmoid_forward", anywhere=True)
def _log_sigmoid(call: Call) -> Value:
    """``-softplus(-x)``."""
    output = call.emit(Softplus(), affine(call, call.value(), -1.0, 0.0, "negative"))
    return affine(call, output, -1.0, 0.0, "log_sigmoid")


@aten("silu", "silu_", anywhere=True)
def _silu(call: Call) -> Value:
    value = call.value()
    return call.emit(Mul(), value, call.emit(Sigmoid(), value))


@aten("hardsigmoid", "hardsigmoid_", anywhere=True)
def _hardsigmoid(call: Call) -> Value:
    line = affine(call, call.value(), 1 / 6, 0.5, "hardsigmoid")
    return call.emit(ops.UNIT, line, label="hardsigmoid")


@aten("prelu", "_prelu_kernel")
def _prelu(call: Call) -> Value:
    """One slope: a leaky ReLU. One per channel: ``max(x, slope * x)`` where all are within ±1, so that both lie on one
    grid; else ``relu(x) + min(slope * x, 0)``, where slopes below zero are negated before and after. No runtime has an
    integer kernel for it that a delegate or onnxruntime takes."""
    value, slope = call.value(), call.constant("weight")
    if slope is None:
        raise call.unsupported("it has no slope", "give nn.PReLU its parameter")
    slopes = slope.tensor.flatten()
    if bool((slopes == slopes[0]).all()):
        return call.emit(ops.LeakyReLU(float(slopes[0])), value)
    per_channel = Constant(slope.name, slopes.view(-1, *[1] * (len(value.shape) - 2)))
    if bool((slopes.abs() <= 1).all()):
        return call.emit(Maximum(), value, affine(call, value, per_channel, 0.0, "slope"), label="prelu")
    size, sign = per_channel.tensor.abs(), torch.where(per_channel.tensor < 0, -1.0, 1.0)
    below = call.emit(ops.NEGATIVE, affine(call, value, Constant(slope.name, size), 0.0, "slope"), label="below")
    if bool((sign < 0).any()):
        below = affine(call, below, Constant(f"{slope.name}.sign", sign), 0.0, "sign")
    return call.emit(ops.Add(), call.emit(ops.RELU, value, label="above"), below)


def times(call: Call, operand: Operand, factor: float) -> Operand:
    """`factor` times an activation, constant or number."""
    if factor == 1:
        return operand
    if isinstance(operand, Value):
        return affine(call, call.activation(operand), float(factor), 0.0)
    return Constant(operand.name, operand.tensor * factor) if isinstance(operand, Constant) else operand * factor


def sum_of(call: Call, left: Operand, right: Operand) -> Value:
    """Two activations added, or an activation and a number or constants."""
    value, shift = (left, right) if isinstance(left, Value) else (right, left)
    if isinstance(shift, Value) or _varies(call.activation(value), shift):
        return call.emit(ops.Add(), *_pair(call, left, right))  # type: ignore[arg-type]
    return affine(call, call.activation(value), 1.0, shift)


def _pair(call: Call, left: Value | Constant, right: Value | Constant) -> tuple[Value, Value]:
    """Both with one number of dimensions, which torch counts from the last."""
    values = [given for given in (left, right) if isinstance(given, Value)]
    rank = max(len(call.activation(value).shape) for value in values)
    return call.operand(left, rank), call.operand(right, rank)


def affine(call: Call, value: Value, scale: Operand, shift: Operand, label: str = "") -> Value:
    """``value * scale + shift``; the two are numbers, or constants with a number per channel at most, be that the first
    dimension or the last."""
    if len(value.shape) < 2:
        raise call.unsupported("its input has no channels", "compute on (N, C, ...)")
    names = ("scale", "shift")
    if any(_along_last(value, given) for given in (scale, shift)):
        picture, back = as_channels(call, value)
        scale, shift = (_as_vector(given) for given in (scale, shift))
        return back(affine(call, picture, scale, shift, label), value.shape[-1:])
    constants = [_vector(call, value, given, name) for given, name in zip((scale, shift), names, strict=True)]
    return call.emit(Affine(), value, *constants, label=label)


def _varies(value: Value, given: Operand) -> bool:
    """Is it a constant with more than one number per channel, be that the first dimension or the last?"""
    if not isinstance(given, Constant) or given.tensor.numel() == 1 or _along_last(value, given):
        return False
    shape = tuple(given.tensor.shape)
    places = (1,) * (len(value.shape) - len(shape)) + shape
    return len(shape) > len(value.shape) or any(size != 1 and place != 1 for place, size in enumerate(places))


def _along_last(value: Value, given: Operand) -> bool:
    """Is it one number per channel of a value with channels last?"""
    if not isinstance(given, Constant) or len(value.shape) < 3:
        return False
    *others, last = given.tensor.shape or (1,)
    return last > 1 and last == value.shape[-1] and all(size == 1 for size in others)


def _as_vector(given: Operand) -> Operand:
    """A constant per channel of a picture."""
    return Constant(given.name, given.tensor.reshape(-1, 1, 1)) if isinstance(given, Constant) else given


def _vector(call: Call, value: Value, given: Operand, name: str) -> Constant:
    """A constant operand as one number per channel."""
    channels = value.shape[1]
    if not isinstance(given, Constant):
        return Constant(name, torch.full((channels,), float(given)))  # type: ignore[arg-type]
    shape = tuple(given.tensor.shape)
    places = (1,) * (len(value.shape) - len(shape)) + shape
    if len(shape) > len(value.shape) or any(size != 1 and place != 1 for place, size in enumerate(places)):
        raise call.unsupported(
            f"a constant of shape {list(shape)} meets {list(value.shape)}",
            "one number, or one per channel as (C, 1, 1), can be folded into a convolution",
        )
    flat: Tensor = given.tensor.reshape(-1).float()
    return Constant(given.name, flat.expand(channels).clone())
