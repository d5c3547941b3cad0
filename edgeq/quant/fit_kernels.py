"""Move scales to where every runtime's kernels accept them (`edgeq.integer.kernel_limits`), at the least loss.

Three things can be too fine:

- the grid of an output, where one step of its inputs is hundreds of its own steps: a coarser grid loses nothing;
- weights, where sums of products and the bias exceed 32 bits: they get fewer levels;
- weights whose products cannot move the output by half a step: they get a scale that a multiplier can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeq.graph.ir import Graph, Node
from edgeq.integer.graph import Quantization
from edgeq.integer.kernel_limits import (
    FINEST_INPUT,
    LARGEST_RATIO,
    LARGEST_SUM,
    SMALLEST_RATIO,
    scale_ratio,
)
from edgeq.quant.specify import find_leaders, fixed_output, widen_grid

__all__ = ["DEAD_RATIO", "Fitted", "dead_scales", "fit_kernels"]

Doubles = npt.NDArray[np.float64]

MARGIN = 0.5
"""Share of a kernel's limit that is used: corrections of biases come later, and float32 rounds."""

ROOM = 1 - 2.0**-5
"""Share of the largest sum that is used. Rounding 150,000 weights to integers can add 2^-7 of the sum."""

DEAD_RATIO = 2.0**-16
"""Input x weight / output scale ratio of channels whose weights decide nothing."""

SAME = 1 + 1e-6
"""Two scales whose ratio is below this count as equal, because float32 rounds them."""


@dataclass(frozen=True)
class Fitted:
    """Grids that kernels accept.

    `coarsened` says how many times coarser the grid of an op's output became, by the op's name. `limited` counts the
    channels of a layer whose weights have fewer levels than their bits allow, so that sums fit, by the layer's name.
    """

    activations: Mapping[str, Quantization]
    weights: Mapping[str, Quantization]
    coarsened: Mapping[str, float]
    limited: Mapping[str, int]


def fit_kernels(
    graph: Graph,
    activations: Mapping[str, Quantization],
    weights: Mapping[str, Quantization],
    corrections: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Fitted:
    """Replace the grids of an optimised `graph` that some runtime's kernel would refuse or overflow on.

    Grids that nothing may move (inputs, softmax, sigmoid ...) stay; weights that are too large for such a grid are
    clipped. `corrections` are what will be added to biases, ``(C_out,)`` by node name.
    """
    fitting = _Fitting(graph, activations, weights, corrections or {})
    for _ in range(len(graph.nodes) + 1):  # a coarser grid asks more of those that come after it
        if not fitting.once():
            break
    before, after = activations, fitting.activations
    coarsened = {
        name: float(after[name].scale / before[name].scale)
        for name in (node.name for node in graph.nodes)
        if float(after[name].scale) > SAME * float(before[name].scale)
    }
    return Fitted(after, fitting.weights, coarsened, fitting.limited())


class _Fitting:
    def __init__(
        self,
        graph: Graph,
        activations: Mapping[str, Quantization],
        weights: Mapping[str, Quantization],
        corrections: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        self.graph = graph
        self.activations, self.weights = dict(activations), dict(weights)
        widths = {name: 16 if activations[name].dtype == "int16" else 8 for name in graph.shapes if name in activations}
        self.leaders = find_leaders(graph, widths)
        self.widening = {
            self.leaders[node.name]: node.inputs[0]
            for node in graph.nodes
            if node.op.output_bits is not None and activations[node.name] == widen_grid(activations[node.inputs[0]])
        }
        fixed = {*graph.inputs, *(n.name for n in graph.nodes if fixed_output(n.op, widths[n.name]) is not None)}
        self.fixed = {self.leaders[name] for name in fixed} | set(self.widening)
        self.layers = {node.name: _Layer.of(graph, node, corrections) for node in graph.layers()}

    def once(self) -> bool:
        """Go through all ops once, and return whether anything changed."""
        changed = False
        for node in self.graph.nodes:
            dtype = self.activations[node.name].dtype
            limit = LARGEST_RATIO[dtype].find(type(node.op))
            source = node.inputs[0]
            if node.op.is_layer:
                changed |= self._fit_layer(node, LARGEST_RATIO[dtype].get(node.op) * MARGIN)
            elif limit is not None:
                scales = [float(self.activations[name].scale) for name in node.inputs]
                ratio = scale_ratio(node.op, scales, 1.0, self.graph.shapes[source][1])
                changed |= self._coarsen(node.name, ratio / (limit * MARGIN))
            finest = FINEST_INPUT.find(type(node.op))
            if finest is not None and dtype == "int8":
                output = float(self.activations[node.name].scale)
                changed |= self._coarsen(source, finest(node.op, self.graph.shapes[source], output) / MARGIN)
        return changed

    def _coarsen(self, name: str, finest: float) -> bool:
        """Give `name`, and all that shares its grid, a scale of `finest` at least."""
        leader, old = self.leaders[name], self.activations[name]
        if leader in self.fixed or finest <= SAME * float(old.scale):
            return False
        coarser = replace(old, scale=np.asarray(finest, np.float32))
        self.activations |= {member: coarser for member, first in self.leaders.items() if first == leader}
        for first, source in self.widening.items():
            if self.leaders[source] == leader:
                wide = widen_grid(coarser)
                self.activations |= {member: wide for member, other in self.leaders.items() if other == first}
        return True

    def _fit_layer(self, node: Node, limit: float) -> bool:
        layer, x, y = self.layers[node.name], self.activations[node.inputs[0]], self.activations[node.name]
        old = self.weights[node.inputs[1]]
        before = old.scale.astype(np.float64)
        scale = np.maximum(before, layer.smallest(x))
        unit = float(x.scale) * scale
        # int16 kernels scale sums into 32 bits; int8 ones, where the ratio is above 1, shift them to the left first.
        lowest = MARGIN if x.dtype == "int8" else 0.0
        with np.errstate(over="ignore"):  # sums that cannot come near the limit allow any ratio
            largest = np.clip(LARGEST_SUM["int8"] * MARGIN**2 * unit / layer.reach(x), lowest, limit)
        changed = self._coarsen(node.name, float(np.max(unit / largest)))
        if self.leaders[node.name] in self.fixed:
            steepest = largest * float(y.scale) / float(x.scale)
            scale = np.where(scale > SAME * steepest, steepest, scale)
        if np.any((scale > SAME * before) | (before > SAME * scale)):
            self.weights[node.inputs[1]] = replace(old, scale=scale.astype(np.float32))
            changed = True
        return changed

    def limited(self) -> dict[str, int]:
        counts = {}
        for name, layer in self.layers.items():
            node = layer.node
            x, y, weights = (self.activations[node.inputs[0]], self.activations[name], self.weights[node.inputs[1]])
            live = layer.products(x) >= 0.5 * float(y.scale)
            bound = SAME * layer.smallest(x) >= weights.scale
            few = layer.largest / weights.scale < 0.9 * weights.limits[1]
            if count := int(np.sum(live & bound & few)):
                counts[name] = count
        return counts


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear: per output channel the `total` of absolute weights, the `largest` one, and the bias."""

    node: Node
    total: Doubles
    largest: Doubles
    bias: Doubles

    @classmethod
    def of(cls, graph: Graph, node: Node, corrections: Mapping[str, npt.NDArray[np.float32]]) -> _Layer:
        rows = np.abs(graph.constants[node.inputs[1]]).reshape(len(graph.constants[node.inputs[1]]), -1)
        bias = graph.constants[node.inputs[2]] if len(node.inputs) == 3 else np.zeros(len(rows), np.float32)
        bias = bias.astype(np.float64) + corrections.get(node.name, 0.0)
        return cls(node, rows.sum(1, dtype=np.float64), rows.max(1).astype(np.float64), np.abs(bias))

    def products(self, x: Quantization) -> Doubles:
        """The most that products with values on grid `x` can add up to, real ``(C_out,)``."""
        return _span(x) * float(x.scale) * self.total

    def reach(self, x: Quantization) -> Doubles:
        """The most that products and the bias can add up to, real ``(C_out,)``; never 0."""
        return np.asarray(np.maximum(self.products(x) + self.bias, np.finfo(np.float64).tiny))

    def smallest(self, x: Quantization) -> Doubles:
        """The smallest scales of weights with which sums fit, ``(C_out,)``."""
        return np.asarray(self.reach(x) / (float(x.scale) * LARGEST_SUM[x.dtype] * ROOM))


def _span(x: Quantization) -> float:
    low, high = x.limits
    return float(max(high - int(x.zero_point), int(x.zero_point) - low))


def dead_scales(
    weight: npt.NDArray[np.float32], scale: Doubles, x: Quantization, y: Quantization
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Find dead channels: those of so small weights that no input moves the output by half a step.

    Returns scales ``(C_out,)`` that a multiplier can hold, raised for dead channels and for ratios below
    `SMALLEST_RATIO` only, and which channels are dead, ``(C_out,) bool``.
    """
    products = _span(x) * float(x.scale) * np.abs(weight).reshape(len(weight), -1).sum(1, dtype=np.float64)
    one = float(y.scale) / float(x.scale)
    dead = (products < 0.5 * float(y.scale)) & (scale < DEAD_RATIO * one)
    return np.maximum(scale, np.where(dead, DEAD_RATIO, SMALLEST_RATIO) * one), dead
