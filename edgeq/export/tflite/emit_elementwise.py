"""Emitters of products and smooth activations. Imported for what it registers."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import UnsupportedError
from edgeq.export.tflite.emit import Emitter, emits, grid_key, options_of
from edgeq.graph.elementwise import GELU, HardSwish, Mul, Sigmoid, Tanh, fixed_grid
from edgeq.graph.ir import Node

__all__: list[str] = []

_CODE = schema.BuiltinOperator


@emits(Mul)
def _mul(e: Emitter, node: Node, op: Mul) -> None:
    inputs = tuple(e.index[name] for name in node.inputs)
    e.operator(_CODE.MUL, inputs, e.output(node), options_of("MulOptions", fusedActivationFunction=0))


def _plain(e: Emitter, node: Node, code: int, choices: Any = None, version: int = 0) -> None:
    e.operator(code, (e.index[node.inputs[0]],), e.output(node), choices, version)


def _fixed(e: Emitter, node: Node) -> None:
    """TFLite's int8 kernels have one output grid."""
    q, demanded = e.quantizations.get(node.name), fixed_grid(node.op)
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


@emits(HardSwish)
def _hard_swish(e: Emitter, node: Node, op: HardSwish) -> None:
    _plain(e, node, _CODE.HARD_SWISH, None, 1)


@emits(GELU)
def _gelu(e: Emitter, node: Node, op: GELU) -> None:
    _plain(e, node, _CODE.GELU, options_of("GeluOptions", approximate=op.approximate))
