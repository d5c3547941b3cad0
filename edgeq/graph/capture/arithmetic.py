"""Rules for arithmetic that is made of sums, products, maxima and tables: powers, exponentials, logarithms,
interpolation, the larger of two values.
"""

from __future__ import annotations

import math

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.elementwise import Operand, affine, product, quotient, sum_of, times
from edgeq.graph.capture.repeats import expand

__all__ = ["absolute", "maximum"]

MOST_FACTORS = 4
"""The largest whole power that is made of products."""


@aten("square", "square_")
def _square(call: Call) -> Value:
    return product(call, call.value(), call.value())


@aten("pow", "pow_", "float_power")
def _pow(call: Call) -> Value:
    """Products for small whole powers, else a table."""
    exponent = call["exponent"]
    if isinstance(exponent, Constant) and exponent.tensor.numel() == 1:
        exponent = float(exponent.tensor)
    if not isinstance(call["self"], Value) or not isinstance(exponent, (int, float)):
        raise call.unsupported("its exponent is computed from the input", "raise to a constant power")
    if exponent == 0:
        raise call.unsupported("all it gives is 1", "leave it out")
    return _raised(call, call.value(), float(exponent))


def _raised(call: Call, value: Value, exponent: float) -> Value:
    if exponent == -0.5:
        return call.emit(ops.Rsqrt(), value, label="rsqrt")
    if exponent not in range(1, MOST_FACTORS + 1):
        return call.emit(ops.Power(exponent), value)
    if exponent == MOST_FACTORS:
        value, exponent = product(call, value, value), 2
    result = value
    for _ in range(int(exponent) - 1):
        result = product(call, result, value)
    return result


@aten("sqrt", "sqrt_")
def _sqrt(call: Call) -> Value:
    return _raised(call, call.value(), 0.5)


@aten("rsqrt", "rsqrt_")
def _rsqrt(call: Call) -> Value:
    return _raised(call, call.value(), -0.5)


@aten("reciprocal", "reciprocal_")
def _reciprocal(call: Call) -> Value:
    return _raised(call, call.value(), -1.0)


@aten("abs", "abs_", "absolute")
def _abs(call: Call) -> Value:
    """A leaky ReLU of slope -1, which every runtime has."""
    return absolute(call, call.value())


def absolute(call: Call, value: Value) -> Value:
    """The values without their sign."""
    return call.emit(ops.LeakyReLU(-1.0), value, label="abs")


@aten("exp", "exp_")
def _exp(call: Call) -> Value:
    return call.emit(ops.Exp(), call.value())


@aten("exp2")
def _exp2(call: Call) -> Value:
    return call.emit(ops.Exp(), affine(call, call.value(), math.log(2), 0.0, "exp2"))


@aten("expm1", "expm1_")
def _expm1(call: Call) -> Value:
    return sum_of(call, call.emit(ops.Exp(), call.value()), -1.0)


@aten("log", "log_")
def _log(call: Call) -> Value:
    return call.emit(ops.Log(), call.value())


@aten("log2", "log10")
def _log_of_base(call: Call) -> Value:
    base = 2 if "log2" in call.name else 10
    return product(call, call.emit(ops.Log(), call.value()), 1 / math.log(base))


@aten("log1p", "log1p_")
def _log1p(call: Call) -> Value:
    return call.emit(ops.Log(), sum_of(call, call.value(), 1.0))


@aten("sin", "sin_")
def _sin(call: Call) -> Value:
    return call.emit(ops.Sin(), call.value())


@aten("cos", "cos_")
def _cos(call: Call) -> Value:
    """A quarter turn ahead of the sine."""
    return call.emit(ops.Sin(), sum_of(call, call.value(), math.pi / 2))


@aten("softshrink")
def _softshrink(call: Call) -> Value:
    """What is beyond the limits."""
    value, limit = call.value(), float(call.get("lambd", 0.5))
    return sum_of(call, value, product(call, call.emit(ops.Clamp(-limit, limit), value), -1.0))


@aten("addcdiv", "addcdiv_")
def _addcdiv(call: Call) -> Value:
    ratio = quotient(call, call["tensor1"], call["tensor2"])
    return sum_of(call, call["self"], times(call, ratio, call.get("value", 1)))


@aten("addcmul", "addcmul_")
def _addcmul(call: Call) -> Value:
    factors = product(call, call["tensor1"], call["tensor2"])
    return sum_of(call, call["self"], times(call, factors, call.get("value", 1)))


@aten("lerp", "lerp_")
def _lerp(call: Call) -> Value:
    """``start + weight * (end - start)``; with a constant weight the sum of both, weighted."""
    start, end, weight = call["self"], call["end"], call["weight"]
    if isinstance(weight, (int, float)):
        return sum_of(call, times(call, start, 1 - weight), times(call, end, weight))
    difference = sum_of(call, end, times(call, start, -1))
    return sum_of(call, start, product(call, difference, weight))


@aten("maximum", anywhere=True)
def _maximum(call: Call) -> Value:
    return maximum(call, call["self"], call["other"])


@aten("minimum", anywhere=True)
def _minimum(call: Call) -> Value:
    """``-max(-a, -b)``."""
    larger = maximum(call, times(call, call["self"], -1), times(call, call["other"], -1))
    return product(call, larger, -1.0)


def maximum(call: Call, left: Operand, right: Operand) -> Value:
    """The larger of two activations, the smaller shape repeated."""
    pair = [expand(call, call.activation(given), call.shape) for given in (left, right)]
    return call.emit(ops.Maximum(), *pair)
