"""Hard sigmoid and hard swish written by hand, or decomposed by an export, as what they are.

``relu6(x + 3) / 6`` is a scale and a shift that end in 0..1, and ``x`` times that a `HardSwish`. So a factor moves
through the product and the clamp before it, and one scale after another becomes one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, UNIT, Affine, Clamp, HardSwish, Mul
from edgeq.graph.passes._edit import Edit

__all__ = ["recompose_hard_activations"]

Doubles = npt.NDArray[np.float64]


def recompose_hard_activations(graph: Graph) -> Graph:
    """Until nothing moves: `fold_batchnorm` would make a layer of every scale that is left."""
    while True:
        before, graph = graph, _once(graph)
        if graph is before:
            return graph


def _once(graph: Graph) -> Graph:
    edit = Edit(graph)
    for node in graph.of_kind(Affine, Mul):
        sources = [edit.producer(name) for name in node.inputs[:2]]
        if edit.touched(node) or any(source is not None and edit.touched(source) for source in sources):
            continue
        if isinstance(node.op, Mul):
            _hard_swish(edit, node)
            continue
        before = sources[0]
        if before is None or edit.only_reader(before.name) is not node:
            continue
        if isinstance(before.op, Affine):
            _merge(edit, before, node)
        elif isinstance(before.op, Clamp):
            _through_clamp(edit, before, node)
        elif isinstance(before.op, Mul):
            _into_product(edit, before, node)
    return edit.done()


def _numbers(edit: Edit, node: Node) -> tuple[Doubles, Doubles]:
    scale, shift = (edit.graph.constants[name].astype(np.float64) for name in node.inputs[1:])
    return scale, shift


def _constants(edit: Edit, node: Node, scale: Doubles, shift: Doubles) -> tuple[str, str]:
    return edit.constant(f"{node.name}.scale", scale, node), edit.constant(f"{node.name}.shift", shift, node)


def _merge(edit: Edit, first: Node, second: Node) -> None:
    (s1, t1), (s2, t2) = _numbers(edit, first), _numbers(edit, second)
    names = _constants(edit, second, s1 * s2, t1 * s2 + t2)
    edit.replace(second, Node(second.name, Affine(), (first.inputs[0], *names)))


def _through_clamp(edit: Edit, clamp: Node, node: Node) -> None:
    """``s * clamp(x)`` is a clamp of ``s * x``; only where it then is one that costs nothing."""
    scale, shift = _numbers(edit, node)
    limits = clamp.op.clamp
    if limits is None or np.ptp(scale) or scale[0] <= 0 or np.any(shift):
        return
    low, high = (float(np.float32(limit * scale[0])) for limit in (limits.minimum, limits.maximum))
    moved = Clamp(low, high)
    if moved not in (RELU, UNIT):
        return
    inner = f"{node.name}.scaled"
    edit.replace(node, Node(inner, Affine(), (clamp.inputs[0], *node.inputs[1:])), Node(node.name, moved, (inner,)))


def _into_product(edit: Edit, product: Node, node: Node) -> None:
    """``s * (x * clamp(y))``: the factor is the clamp's to take."""
    scale, shift = _numbers(edit, node)
    if np.ptp(scale) or np.any(shift):
        return
    for place, name in enumerate(product.inputs):
        gate = edit.producer(name)
        if gate is None or not isinstance(gate.op, Clamp) or edit.only_reader(name) is not product:
            continue
        channels = edit.graph.shapes[name][1]
        inner = f"{node.name}.gate"
        names = _constants(edit, node, np.full(channels, scale[0]), np.zeros(channels))
        inputs = list(product.inputs)
        inputs[place] = inner
        edit.replace(node, Node(inner, Affine(), (name, *names)), Node(node.name, Mul(), tuple(inputs)))
        return


def _hard_swish(edit: Edit, node: Node) -> None:
    for x, name in (node.inputs, node.inputs[::-1]):
        gate = edit.producer(name)
        line = edit.producer(gate.inputs[0]) if gate is not None and gate.op == UNIT else None
        if gate is None or line is None or not isinstance(line.op, Affine) or line.inputs[0] != x:
            continue
        scale, shift = _numbers(edit, line)
        alone = edit.only_reader(gate.name) is node and edit.only_reader(line.name) is gate
        if alone and np.allclose(scale, 1 / 6, rtol=1e-5) and np.allclose(shift, 0.5, rtol=1e-5):
            edit.replace(node, Node(node.name, HardSwish(), (x,)))
            return
