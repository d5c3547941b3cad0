"""Which value gets its quantization from where: its own range, another value's, a product, or a fixed rule.

Four kinds follow torch's PT2E vocabulary (own, shared, derived, fixed); the fifth, widened, is where 8 bits meet 16.
`specify` decides the kind for every value of an optimised graph; `grid` turns a range into scale and zero point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.config.tasks import FEWEST_SCORES
from edgeq.errors import TargetLimitError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    RELU,
    RELU6,
    UNIT,
    Clamp,
    Op,
)
from edgeq.integer.graph import Quantization
from edgeq.quant.bits import activation_bits, value_widths
from edgeq.quant.scheme import Scheme

__all__ = [
    "DerivedSpec",
    "FixedSpec",
    "OwnSpec",
    "SharedSpec",
    "Spec",
    "WidenedSpec",
    "find_leaders",
    "fixed_output",
    "grid",
    "keeps_grid",
    "specify",
    "widen_grid",
]


RESCALING = (RELU, RELU6, UNIT, Clamp(-1.0, 1.0))
"""Clamps of int8 values whose kernels rescale to another grid. The others compare integers on their input's grid."""
WIDE_RESCALING = (RELU, RELU6, UNIT)
"""Clamps of int16 values whose kernels rescale to another grid."""


@dataclass(frozen=True)
class OwnSpec:
    """The quantization comes from the range of all `members` on the calibration set, and they share it.

    `cap` is the largest real value worth representing (6 behind a ReLU6), `exact` asks for the whole observed range
    (network outputs: a clipped logit can tie with another; values a global average reads: rounding averages out over
    the map, what was clipped stays lost; 16 bits, which have room for everything).
    """

    members: tuple[str, ...]
    cap: float = float("inf")
    exact: bool = False
    bits: int = 8
    ranked: bool = False


@dataclass(frozen=True)
class SharedSpec:
    """The quantization is exactly that of `source`."""

    source: str


@dataclass(frozen=True)
class DerivedSpec:
    """The quantization of a bias: scale = scale of `value` x scale of `weight`, zero point 0, int32."""

    value: str
    weight: str


@dataclass(frozen=True)
class FixedSpec:
    """A quantization that is known without calibration.

    It follows from the preprocessing for the network's input, and from the definition of the op for softmax, sigmoid,
    tanh and values clamped to 0..1.
    """

    quantization: Quantization


@dataclass(frozen=True)
class WidenedSpec:
    """The 16-bit copy of `source`, an 8-bit value. Its grid has every point of the grid of `source`."""

    source: str


Spec = OwnSpec | SharedSpec | DerivedSpec | FixedSpec | WidenedSpec

SMALLEST_SCALE = 1e-18
"""The smallest scale of an activation. The product of two such scales is still a normal float32 number, which XNNPACK
demands of a scale. `edgeq.quant.fit_kernels` raises scales that kernels cannot reach from those of their inputs."""


def grid(low: float, high: float, bits: int = 8) -> Quantization:
    """Scale and zero point covering ``[low, high]``, widened to hold 0, which is always exactly representable.

    With 16 bits the range is widened to both sides of 0 alike: TFLite's int16 kernels know no zero point.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if bits == 16:
        scale = max(-low / 32767, high / 32767, SMALLEST_SCALE)
        return Quantization(np.float32(scale), np.int32(0), "int16")  # type: ignore[arg-type]
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = max((high - low) / (qmax - qmin), SMALLEST_SCALE)
    zero = int(np.clip(np.round(qmin - low / scale), qmin, qmax))
    return Quantization(np.float32(scale), np.int32(zero), bits=bits)  # type: ignore[arg-type]


def widen_grid(source: Quantization) -> Quantization:
    """The int16 grid 128 times as fine as the int8 grid `source`, which holds -255..255 of its steps around zero."""
    return Quantization(source.scale / np.float32(128), np.int32(0), "int16")  # type: ignore[arg-type]


def fixed_output(op: Op, bits: int = 8) -> Quantization | None:
    """The one quantization the output of `op` can have (`Op.fixed_grid`); None where there is a choice."""
    demanded = op.fixed_grid(bits)
    if demanded is None:
        return None
    scale, zero = demanded
    return Quantization(np.float32(scale), np.int32(zero), "int16" if bits == 16 else "int8")  # type: ignore[arg-type]


def specify(graph: Graph, input_range: tuple[float, float], scheme: Scheme, *, ranked: bool = False) -> dict[str, Spec]:
    """A specification for every activation and bias of an optimised `graph` (weights: per channel, from themselves).

    Values joined by ops that only move or select (pooling, concat, reshape ...) form one group with one quantization,
    named after its first member. `ranked` says that the outputs are scores of classes, read for the best of them.

    Raises `UnsupportedError` where two fixed quantizations would have to be one, for
    layers whose own bits cannot be (`edgeq.quant.bits`), for 8-bit and 16-bit values that meet without a
    requantization, and for functions that 16 bits have no kernel for.
    """
    widths = value_widths(graph, scheme)
    for node in graph.nodes:
        if node.op.tabulated and widths[node.name] == 16:
            raise TargetLimitError(
                f"{type(node.op).__name__} of 16-bit activations",
                where=node.name,
                why="no runtime has a kernel for it",
                hint="use a8, or GELU or SiLU" if node.op.activation_function else "use a8",
            )
    leader = find_leaders(graph, widths)
    groups: dict[str, list[str]] = {}
    for name, first in leader.items():
        groups.setdefault(first, []).append(name)
    fixed = {name: grid(*input_range, widths[name]) for name in graph.inputs}
    for node in graph.nodes:
        if (rule := fixed_output(node.op, widths[node.name])) is not None:
            fixed[node.name] = rule
    bits = activation_bits(graph, groups, scheme, widths)
    specs: dict[str, Spec] = {}
    for first, members in groups.items():
        rules = [fixed[name] for name in members if name in fixed]
        if any(rule != rules[0] for rule in rules[1:]):
            raise TargetLimitError("two values of fixed scale are joined", where=first, hint="add an op between them")
        for name in members:
            specs[name] = SharedSpec(first)
        caps = [_cap(graph, name) for name in members]
        exact = any(name in graph.outputs for name in members) or (bits[first] == 8 and _is_averaged(graph, members))
        exact |= bits[first] == 16
        source = _widened_from(graph, members) if bits[first] == 16 else None
        if source is not None:
            specs[first] = WidenedSpec(source)
        else:
            scores = ranked and bits[first] != 16 and _are_only_outputs(graph, members)
            own = OwnSpec(tuple(members), max(caps), exact, bits[first], scores)
            specs[first] = FixedSpec(rules[0]) if rules else own
    for node in graph.layers():
        if len(node.inputs) == 3:
            specs[node.inputs[2]] = DerivedSpec(node.inputs[0], node.inputs[1])
    return specs


def keeps_grid(node: Node, bits: int) -> bool:
    """Whether the output of `node`, of `bits` bits, has the grid of its input."""
    clamp = node.op.clamp
    if clamp is node.op:
        return clamp not in (WIDE_RESCALING if bits == 16 else RESCALING)
    return node.op.shares_quantization


def _widened_from(graph: Graph, members: Sequence[str]) -> str | None:
    """The 8-bit value whose 16-bit copy is all that a group of 16-bit `members` comes from, if it does."""
    makers = [node for node in graph.nodes if node.name in members and not keeps_grid(node, 16)]
    if len(makers) == 1 and makers[0].op.output_bits is not None and not {*members} & {*graph.inputs}:
        return makers[0].inputs[0]
    return None


def find_leaders(graph: Graph, widths: Mapping[str, int]) -> dict[str, str]:
    """Map every activation to the first activation that it must share a quantization with (union-find)."""
    parent = {name: name for name in graph.shapes if name not in graph.constants}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    order = {name: place for place, name in enumerate(parent)}
    for node in graph.nodes:
        if keeps_grid(node, widths[node.name]):
            for name in graph.activations(node):
                ends = sorted((find(name), find(node.name)), key=order.__getitem__)
                parent[ends[1]] = ends[0]
    return {name: find(name) for name in parent}


def _are_only_outputs(graph: Graph, members: Sequence[str]) -> bool:
    """Whether the group ends in outputs of `FEWEST_SCORES` channels or more, and nothing else reads it."""
    consumers = graph.consumers()
    read = any(node.name not in members for name in members for node in consumers[name])
    ends = [name for name in members if name in graph.outputs]
    return not read and bool(ends) and all(graph.shapes[name][1] >= FEWEST_SCORES for name in ends)


def _is_averaged(graph: Graph, members: list[str]) -> bool:
    """Whether global averages are the only readers of the group outside it.

    Below 8 bits such groups are no exception: most values of such a map are closer to 0 than half a step, and round
    alike.
    """
    consumers = graph.consumers()
    readers = [node for name in members for node in consumers[name] if node.name not in members]
    readers = [far for near in readers for far in (consumers[near.name] if _copies(near) else (near,))]
    return bool(readers) and all(node.op.averages_map for node in readers)


def _copies(node: Node) -> bool:
    return node.op.output_bits is not None


def _cap(graph: Graph, name: str) -> float:
    """The largest value an op can produce, where its definition bounds it."""
    node = graph.node(name)
    if node is None:
        return float("inf")
    if node.op.clamp is not None:
        return node.op.clamp.maximum
    if node.op.shares_quantization or _copies(node):
        return max(_cap(graph, source) for source in graph.activations(node))
    return float("inf")
