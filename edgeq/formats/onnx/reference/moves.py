"""Ops that move, select or resize integers as ONNX Runtime's kernels do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.formats.onnx.reference.table import KERNELS, Integers
from edgeq.graph.ir import Node
from edgeq.graph.ops import (
    Concat,
    Constant,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Slice,
)
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.resize import resize

__all__ = ["interpolates"]


@KERNELS.rule(Concat)
def _concat(graph: IntegerGraph, node: Node, op: Concat, inputs: list[Integers], shift: int) -> Integers:
    return np.concatenate(inputs, axis=op.axis)


@KERNELS.rule(Constant)
def _constant(graph: IntegerGraph, node: Node, op: Constant, inputs: list[Integers], shift: int) -> Integers:
    return inputs[0]


@KERNELS.rule(Pad)
def _pad(graph: IntegerGraph, node: Node, op: Pad, inputs: list[Integers], shift: int) -> Integers:
    zero = int(graph.quantizations[node.name].zero_point)
    return np.pad(inputs[0], list(zip(op.before, op.after, strict=True)), constant_values=zero)


@KERNELS.rule(Slice)
def _slice(graph: IntegerGraph, node: Node, op: Slice, inputs: list[Integers], shift: int) -> Integers:
    cuts = [slice(*numbers) for numbers in zip(op.start, op.stop, op.step, strict=True)]
    return inputs[0][(slice(None), *cuts[1:])]


@KERNELS.rule(Permute)
def _permute(graph: IntegerGraph, node: Node, op: Permute, inputs: list[Integers], shift: int) -> Integers:
    return inputs[0].transpose(op.order)


@KERNELS.rule(Resize2d)
def _resize(graph: IntegerGraph, node: Node, op: Resize2d, inputs: list[Integers], shift: int) -> Integers:
    """Weighted in float32, fractions cut off. Exact where positions are (twice the size); else a tie may fall apart."""
    if op.mode != "bilinear":
        return resize(inputs[0], op)
    (y1, y2, fy), (x1, x2, fx) = (
        _between(size, out, op.align_corners) for size, out in zip(inputs[0].shape[2:], op.size, strict=True)
    )
    x = inputs[0].astype(np.float32) + np.float32(shift)
    gy, gx = (np.float32(1) - fy)[:, None], np.float32(1) - fx
    fy = fy[:, None]
    top, bottom = x[:, :, y1], x[:, :, y2]
    total = gx * gy * top[..., x1] + fx * gy * top[..., x2] + gx * fy * bottom[..., x1] + fx * fy * bottom[..., x2]
    return np.asarray(np.trunc(total) - shift)


def _between(size: int, out: int, align_corners: bool) -> tuple[Integers, Integers, npt.NDArray[np.float32]]:
    positions = np.arange(out, dtype=np.float32)
    if align_corners:
        positions = positions * np.float32(size - 1) / np.float32(out - 1) if out > 1 else positions * 0
    else:
        positions = (positions + np.float32(0.5)) / np.float32(out / size) - np.float32(0.5)
    positions = np.clip(positions.astype(np.float32), np.float32(0), np.float32(size - 1))
    low = np.minimum(positions.astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    return low, high, (positions - low).astype(np.float32)


@KERNELS.rule(Reshape)
def _reshape(graph: IntegerGraph, node: Node, op: Reshape, inputs: list[Integers], shift: int) -> Integers:
    return inputs[0].reshape(len(inputs[0]), *op.shape)


def interpolates(node: Node) -> bool:
    """Whether ONNX Runtime's result is compared with its own arithmetic only.

    LiteRT interpolates at positions in 1024ths, and multiples of a rounded one: further from the real ones than ONNX
    Runtime's, by more than a step where contrast is high.
    """
    return isinstance(node.op, Resize2d) and node.op.mode == "bilinear"
