"""TFLite operators of softmax, means of squares and inverse square roots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgeq.formats.tflite.emit.elementwise import check_grid
from edgeq.formats.tflite.emit.emitter import Emitter, options_of
from edgeq.formats.tflite.emit.table import EMITTERS
from edgeq.graph.ir import Node
from edgeq.graph.ops import MeanSquare, Rsqrt, Softmax
from edgeq.integer.reference.norms import eps_steps, sum_grid

__all__: list[str] = []

_CODE = schema.BuiltinOperator


@EMITTERS.rule(Softmax)
def _softmax(e: Emitter, node: Node, op: Softmax) -> None:
    check_grid(e, node, "softmax")
    e.operator(_CODE.SOFTMAX, (e.index[node.inputs[0]],), e.output(node), options_of("SoftmaxOptions", beta=op.beta))


@EMITTERS.rule(MeanSquare)
def _mean_square(e: Emitter, node: Node, op: MeanSquare) -> None:
    """Every pixel's channels times themselves, as a row and a column: the one kernel that sums products of activations.

    A RESHAPE does not look at grids, so it divides by the number of channels, and adds epsilon by another zero point;
    int16 has none, and an ADD.
    """
    x, q = e.index[node.inputs[0]], e.quantizations.get(node.name)
    shape = e.file.tensors[x].shape
    if q is None:
        _float_mean_square(e, node, op)
        return
    _, height, width, channels = shape
    rows, eps, total = (1, height * width, 1, channels), eps_steps(op, q), sum_grid(q, channels)
    if not e.wide:
        total = replace(total, zero_point=np.asarray(total.zero_point + eps, np.int32))
    row = e.shaped(x, rows, f"{node.name}/rows")
    y = e.activation(f"{node.name}/sum", (1, height * width, 1, 1), total)
    e.operator(_CODE.BATCH_MATMUL, (row, row), y, options_of("BatchMatMulOptions", adjY=True))
    place = (1, height, width, 1)
    if not (e.wide and eps):
        e.operator(_CODE.RESHAPE, (y, e.numbers(place)), e.output(node), None, 1)
        return
    mean = e.activation(f"{node.name}/mean", place, q)
    e.operator(_CODE.RESHAPE, (y, e.numbers(place)), mean, None, 1)
    more = e.constant("epsilon", np.asarray(eps, np.int16), q)
    e.operator(_CODE.ADD, (mean, more), e.output(node), options_of("AddOptions", potScaleInt16=False), wide=3)


def _float_mean_square(e: Emitter, node: Node, op: MeanSquare) -> None:
    x = e.index[node.inputs[0]]
    shape = e.file.tensors[x].shape
    square = e.activation(f"{node.name}/square", shape, None)
    mean = e.activation(f"{node.name}/mean", (*shape[:3], 1), None)
    e.operator(_CODE.MUL, (x, x), square, options_of("MulOptions"))
    e.operator(_CODE.MEAN, (square, e.numbers([3])), mean, options_of("ReducerOptions", keepDims=True))
    more = e.constant("epsilon", np.asarray(op.eps, np.float32))
    e.operator(_CODE.ADD, (mean, more), e.output(node), options_of("AddOptions"))


@EMITTERS.rule(Rsqrt)
def _rsqrt(e: Emitter, node: Node, op: Rsqrt) -> None:
    e.operator(_CODE.RSQRT, (e.index[node.inputs[0]],), e.output(node), None, wide=2)
