"""Rules for products of two activations, and for attention, which is two of them around a softmax."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten
from edgeq.graph.capture.layers import linear
from edgeq.graph.capture.moves import permute_seen, reshape
from edgeq.graph.capture.norms import softmax
from edgeq.graph.capture.repeats import expand
from edgeq.graph.ops import Affine, MatMul, Shape

__all__: list[str] = []

FARTHEST = 30.0
"""Masks go down to minus infinity. What is this far below the others has a probability that no grid holds."""

Operand = Value | Constant


@aten("matmul", "bmm", "mm", anywhere=True)
def _matmul(call: Call) -> Value:
    left, right = call["self"], call.get("other", call.get("mat2"))
    if isinstance(left, Value) and isinstance(right, Constant) and right.tensor.dim() == 2 and len(left.seen) > 1:
        return linear(call, left, Constant(right.name, right.tensor.t()), None)
    return product(call, left, right, call.shape)


@aten("scaled_dot_product_attention", anywhere=True)
def _attention(call: Call) -> Value:
    query, key, value = (call[name] for name in ("query", "key", "value"))
    if call.get("enable_gqa", False):
        raise call.unsupported("it repeats heads of keys", "repeat them before")
    if float(call.get("dropout_p", 0.0)):
        raise call.unsupported("the network was exported in training mode", "call model.eval() before exporting")
    *batch, rows, depth = query.seen if isinstance(query, Value) else query.tensor.shape
    columns = (key.seen if isinstance(key, Value) else key.tensor.shape)[-2]
    scale = call.get("scale")
    factor = 1 / math.sqrt(depth) if scale is None else float(scale)
    scores = product(call, _scaled(call, query, factor), key, (*batch, rows, columns), transposed=True)
    mask = call.get("attn_mask")
    if call.get("is_causal", False):
        mask = Constant("causal", torch.ones(rows, columns).tril().bool())
    if mask is not None:
        scores = _masked(call, scores, mask)
    return product(call, softmax(call, scores, len(scores.shape) - 1), value, call.shape)


@aten("einsum", anywhere=True)
def _einsum(call: Call) -> Value:
    """A product of matrices: letters of both operands that the result has count matrices, those that it has not are
    summed over."""
    equation, operands = str(call["equation"]).replace(" ", ""), list(call["tensors"])
    sources, arrow, made = equation.partition("->")
    names = sources.split(",")
    letters = [*names, made]
    if not arrow or len(names) != 2 or any(len(set(word)) < len(word) or "." in word for word in letters):
        raise call.unsupported(f"{equation!r} is no product of two", _EINSUM_HINT)
    (left, right), sizes = names, _sizes(names, operands)
    both = [letter for letter in left if letter in right and letter in made]
    inner = [letter for letter in left if letter in right and letter not in made]
    rows, columns = ([letter for letter in word if letter not in both + inner] for word in names)
    if not inner or not set(rows + columns) <= set(made):
        raise call.unsupported(f"{equation!r} sums over what one operand has alone", _EINSUM_HINT)
    matrices = [
        _arranged(call, given, name, both, first, inner, sizes)
        for given, name, first in zip(operands, names, (rows, columns), strict=True)
    ]
    order = [*both, *rows, *columns]
    count, seen = [sizes[letter] for letter in both], tuple(sizes[letter] for letter in order)
    flat = (*count, *(math.prod(sizes[letter] for letter in group) for group in (rows, columns)))
    output = product(call, matrices[0], matrices[1], flat, transposed=True)
    output = replace(reshape(call, output, _no_picture(seen)), seen=seen)
    return permute_seen(call, output, tuple(order.index(letter) for letter in made))


_EINSUM_HINT = "write it with matmul, transpose and sum"


def _sizes(names: list[str], operands: list[Operand]) -> dict[str, int]:
    """How long the dimension of each letter is."""
    shapes = [given.seen if isinstance(given, Value) else tuple(given.tensor.shape) for given in operands]
    pairs = zip("".join(names), [size for shape in shapes for size in shape], strict=True)
    return dict(pairs)


def _arranged(
    call: Call, given: Operand, name: str, both: list[str], first: list[str], inner: list[str], sizes: dict[str, int]
) -> Operand:
    """An operand as matrices ``(*both, first, inner)``."""
    order = tuple(name.index(letter) for letter in (*both, *first, *inner))
    seen = (*(sizes[letter] for letter in both), *(math.prod(sizes[n] for n in group) for group in (first, inner)))
    if isinstance(given, Constant):
        return Constant(given.name, given.tensor.permute(order).reshape(seen))
    moved = permute_seen(call, given, order) if order != tuple(range(len(order))) else given
    return replace(reshape(call, moved, _no_picture(seen)), seen=seen)


def product(call: Call, left: Operand, right: Operand, seen: Shape, *, transposed: bool = False) -> Value:
    """The matrix product of `left` and `right`, which torch sees as `seen`; with `transposed` the last two dimensions
    of `right` are exchanged."""
    one, other = (_matrices(call, given) for given in (left, right))
    if one.shape[:-2] != other.shape[:-2]:
        one, other = _repeated(call, left, right)
    made = call.emit(MatMul(transposed), one, other)
    if math.prod(made.shape) != math.prod(seen):
        raise call.unsupported(f"its operands have shapes {list(one.shape)} and {list(other.shape)}")
    front = (1,) * max(len(made.shape) - len(seen), 0)
    return made if made.shape == (*front, *seen) else reshape(call, made, _no_picture(seen))


def _repeated(call: Call, left: Operand, right: Operand) -> tuple[Value, Value]:
    """Operands that have not equally many matrices. Many by one are one matrix with all their rows; else what is there
    once is repeated."""
    shapes = [given.seen if isinstance(given, Value) else tuple(given.tensor.shape) for given in (left, right)]
    front = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    if math.prod(shapes[1][:-2]) == 1:
        rows = (1, math.prod(shapes[0][:-1]), shapes[0][-1])
        return reshape(call, _matrices(call, left), rows), _matrices(call, right)
    one, other = (
        given
        if math.prod(shape[:-2]) == math.prod(front)
        else expand(call, _activation(call, given), (*front, *shape[-2:]))
        for given, shape in zip((left, right), shapes, strict=True)
    )
    return _matrices(call, one), _matrices(call, other)


def _no_picture(seen: Shape) -> Shape:
    """A shape for what torch sees as `seen`: three dimensions, or five and more, the batch in front."""
    shape = seen if seen[0] == 1 and len(seen) > 2 else (1, *seen)
    return (1, *shape) if len(shape) == 4 else shape


def _matrices(call: Call, given: Operand) -> Value:
    """``(1, M, K)``, or ``(1, 1, P, M, K)`` for P matrices: any dimensions in front of the last two are one."""
    value = _activation(call, given)
    if len(value.seen) < 2:
        raise call.unsupported("it multiplies vectors", "give both two dimensions or more")
    count = math.prod(value.seen[:-2])
    shape = (1, *value.seen[-2:]) if count == 1 else (1, 1, count, *value.seen[-2:])
    return reshape(call, value, shape)


def _activation(call: Call, given: Operand) -> Value:
    if isinstance(given, Value):
        return given
    seen = tuple(given.tensor.shape)
    return replace(call.operand(given, len(_no_picture(seen))), seen=seen)


def _scaled(call: Call, query: Operand, factor: float) -> Operand:
    """`query` times `factor`, which becomes part of the layer before it."""
    if isinstance(query, Constant):
        return Constant(query.name, query.tensor * factor)
    channels = query.shape[1]
    scale, shift = torch.full((channels,), factor), torch.zeros(channels)
    made = call.emit(Affine(), query, Constant("scale", scale), Constant("shift", shift))
    return replace(made, seen=query.seen)


def _masked(call: Call, scores: Value, mask: Operand) -> Value:
    if isinstance(mask, Constant):
        kept = torch.where(mask.tensor, 0.0, -FARTHEST) if mask.tensor.dtype == torch.bool else mask.tensor.float()
        mask = Constant(mask.name, kept.clamp(min=-FARTHEST))
    return call.emit(ops.Add(), scores, call.operand(mask, len(scores.shape)))
