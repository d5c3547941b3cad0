"""Emitters of functions that TFLite has no integer kernel for: tables of 256. Imported for what it registers.

There is an int8 ELU, but no reference kernel of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.emit.layers import Emitter, emits, options_of
from edgeq.graph.ir import Node
from edgeq.graph.ops import ELU, Mish, Softplus, Unary
from edgeq.integer.reference.elementwise import answers

__all__: list[str] = []

_CODE = schema.BuiltinOperator
_OPTIONS = {_CODE.ADD: schema.AddOptionsT, _CODE.MUL: schema.MulOptionsT}


Form = Callable[[Emitter, Node, Any], None]


def _tabulated(kind: type[Unary]) -> Callable[[Form], Form]:
    """Decorator: emit `kind` as the decorated function does in float, and look it up in integers."""

    def decorate(in_float: Form) -> Form:
        @emits(kind)
        def emit(e: Emitter, node: Node, op: Unary) -> None:
            (in_float if e.dtype == "float32" else _look_up)(e, node, op)

        return in_float

    return decorate


@_tabulated(ELU)
def _elu(e: Emitter, node: Node, op: ELU) -> None:
    x = e.index[node.inputs[0]]
    if op == ELU():
        e.operator(_CODE.ELU, (x,), e.output(node))
        return
    below = _float(
        e, node, _CODE.ELU, _float(e, node, _CODE.MINIMUM, _float(e, node, _CODE.MUL, x, op.input_scale), 0.0)
    )
    below = _float(e, node, _CODE.MUL, below, op.alpha * op.scale)
    above = _float(e, node, _CODE.MUL, _float(e, node, _CODE.RELU, x), op.scale)
    e.operator(_CODE.ADD, (above, below), e.output(node), options_of("AddOptions"))


@_tabulated(Softplus)
def _softplus(e: Emitter, node: Node, op: Softplus) -> None:
    e.operator(_CODE.ADD, _halves(e, node), e.output(node), options_of("AddOptions"))


@_tabulated(Mish)
def _mish(e: Emitter, node: Node, op: Mish) -> None:
    x = e.index[node.inputs[0]]
    total = e.like(x, f"{node.name}/softplus", e.file.tensors[x].shape)
    e.operator(_CODE.ADD, _halves(e, node), total, options_of("AddOptions"))
    e.operator(_CODE.MUL, (x, _float(e, node, _CODE.TANH, total)), e.output(node), options_of("MulOptions"))


def _look_up(e: Emitter, node: Node, op: Unary) -> None:
    """Places from 0 to 255, and a gathering of them."""
    if e.wide:
        raise UnsupportedError(f"{type(op).__name__} of 16-bit activations", where=node.name,
                               why="TFLite has no such kernel", hint="use a8, or GELU or SiLU")  # fmt: skip
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
