"""Rules for arithmetic that is made of sums, products and maxima: powers, interpolation, the larger of two values."""

from __future__ import annotations

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.elementwise import Operand, product, sum_of, times
from edgeq.graph.capture.repeats import expand

__all__ = ["maximum"]

MOST_FACTORS = 4
"""The largest whole power that is made of products."""


@aten("square", "square_")
def _square(call: Call) -> Value:
    return product(call, call.value(), call.value())


@aten("pow", "pow_", "float_power")
def _pow(call: Call) -> Value:
    exponent = call["exponent"]
    if isinstance(exponent, Constant) and exponent.tensor.numel() == 1:
        exponent = float(exponent.tensor)
    if not isinstance(call["self"], Value) or not isinstance(exponent, (int, float)):
        raise call.unsupported("its exponent is computed from the input", "raise to a constant power")
    factors = int(exponent)
    if factors != exponent or not 1 <= factors <= MOST_FACTORS:
        raise call.unsupported(f"its exponent is {exponent}", f"raise to a whole power from 1 to {MOST_FACTORS}")
    value = call.value()
    if factors == MOST_FACTORS:
        value, factors = product(call, value, value), 2
    result = value
    for _ in range(factors - 1):
        result = product(call, result, value)
    return result


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


@aten("maximum")
def _maximum(call: Call) -> Value:
    return maximum(call, call["self"], call["other"])


@aten("minimum")
def _minimum(call: Call) -> Value:
    """``-max(-a, -b)``."""
    larger = maximum(call, times(call, call["self"], -1), times(call, call["other"], -1))
    return product(call, larger, -1.0)


def maximum(call: Call, left: Operand, right: Operand) -> Value:
    """The larger of two activations, the smaller shape repeated."""
    pair = [expand(call, call.activation(given), call.shape) for given in (left, right)]
    return call.emit(ops.Maximum(), *pair)
