"""Activation statistics out of weights alone: GZSQ's estimates, and moments propagated correctly under independence.

Both walk a graph without batch norm (absent or folded) in execution order and give a mean and a standard deviation per
channel for the output of every convolution and linear, before its activation.

`estimate_faithful`: Sharma, Abraham, Rajendiran, "Generalized Zero-Shot Quantization via Learned Weights Statistics",
arXiv 2112.02834: statistics estimation and empirical adjustment. `estimate_moments`: textbook moments of a sum of
independent variables and of a clipped Gaussian; not from that paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.errors import UnsupportedError
from edgeq.graph import ops
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Op, OpTable
from edgeq.graph.patterns import gates_itself
from edgeq.graph.run import function

__all__ = ["ADJUSTMENTS", "Statistics", "estimate_faithful", "estimate_moments"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per channel, both ``(C,)``."""

    mean: Array
    std: Array


@dataclass(frozen=True)
class Gated:
    """``x * gate(x)``, as an activation."""

    gate: Op


@dataclass(frozen=True)
class Bent:
    """A leaky ReLU with a slope per channel."""

    slope: Array


ADJUSTMENTS: dict[str, Callable[[Array], float]] = {
    "min": lambda v: float(v.min()),
    "mean-min": lambda v: float(v.mean() - v.min()),
    "mean+min": lambda v: float(v.mean() + v.min()),
    "mean": lambda v: float(v.mean()),
    "max-mean": lambda v: float(v.max() - v.mean()),
    "max+mean": lambda v: float(v.max() + v.mean()),
    "max": lambda v: float(v.max()),
}
"""GZSQ's empirical adjustments: what stands for a vector of statistics when the channel count changes."""


def estimate_faithful(
    graph: Graph, *, expansion: tuple[str, str] = ("mean", "mean"), contraction: tuple[str, str] = ("mean", "mean+min")
) -> dict[str, Statistics]:
    """GZSQ's statistics estimation: μ_{n+1} = μ_W + μ_n + b, σ_{n+1}² = σ_W² + σ_n², per output channel.

    Where the channel count grows or shrinks, the previous vectors become one number each, chosen from `ADJUSTMENTS` for
    (mean, standard deviation). Activations are ignored, as in the paper; sums add means and variances.
    """

    def layer(node: Node, weight: Array, bias: Array, seen: Statistics) -> Statistics:
        flat = weight.reshape(len(weight), -1)
        mean, std = seen.mean, seen.std
        if len(mean) != len(flat):
            chosen = expansion if len(flat) > len(mean) else contraction
            mean = np.full(len(flat), ADJUSTMENTS[chosen[0]](mean))
            std = np.full(len(flat), ADJUSTMENTS[chosen[1]](std))
        return Statistics(flat.mean(1) + mean + bias, np.sqrt(flat.std(1) ** 2 + std**2))

    return _walk(graph, layer, lambda op, seen: seen)


def estimate_moments(graph: Graph) -> dict[str, Statistics]:
    """Mean and standard deviation of w·x + b for independent inputs, through clamps and leaky ReLUs as of a Gaussian.

    μ_o = Σ w m + b, v_o = Σ w² v over channels and taps of the kernel.
    """

    def layer(node: Node, weight: Array, bias: Array, seen: Statistics) -> Statistics:
        if weight.ndim == 4:
            out_channels, per_group = weight.shape[:2]
            groups = len(seen.mean) // per_group
            rows = np.arange(out_channels) // (out_channels // groups)
            columns = rows[:, None] * per_group + np.arange(per_group)
            taps, power = weight.sum((2, 3)), (weight**2).sum((2, 3))
            mean, var = (taps * seen.mean[columns]).sum(1), (power * seen.std[columns] ** 2).sum(1)
        else:
            mean, var = weight @ seen.mean, weight**2 @ seen.std**2
        return Statistics(mean + bias, np.sqrt(np.maximum(var, 1e-12)))

    return _walk(graph, layer, _activation)


Layer = Callable[[Node, Array, Array, Statistics], Statistics]


@dataclass(frozen=True)
class _Walk:
    """A graph being walked: `layer` and `activation` are each method's own, `known` the statistics so far."""

    graph: Graph
    layer: Layer
    activation: Callable[[Any, Statistics], Statistics]
    known: dict[str, Statistics]


RULES: OpTable[Callable[[_Walk, Node, Any, Sequence[Statistics]], Statistics]] = OpTable("has no statistics")
"""From a node, its op and the statistics of its activations to those of its output, before a fused activation."""


def _walk(graph: Graph, layer: Layer, activation: Callable[[Any, Statistics], Statistics]) -> dict[str, Statistics]:
    """Statistics before activation of every convolution and linear."""
    channels = graph.shapes[graph.inputs[0]][1]
    known = {graph.inputs[0]: Statistics(np.zeros(channels), np.ones(channels))}
    walk = _Walk(graph, layer, activation, known)
    layers: dict[str, Statistics] = {}
    for node in graph.nodes:
        rule = RULES.find(type(node.op))
        if rule is None:
            raise _unknown(walk, node)
        now = rule(walk, node, node.op, [known[name] for name in graph.activations(node)])
        if node.op.is_layer:
            layers[node.name] = now
        fused = node.op.fused_activation
        known[node.name] = now if fused is None else activation(fused, now)
    return layers


def _unknown(walk: _Walk, node: Node) -> UnsupportedError:
    shapes = [walk.graph.shapes[name] for name in walk.graph.activations(node)]
    return UnsupportedError(
        f"gzsq cannot carry statistics through {type(node.op).__name__}",
        where=node.name,
        why=f"shapes {shapes}",
        hint="use --method gznq on the network before its batch norms are folded",
    )


@RULES.rule(ops.Conv2d, ops.Linear)
def _layer(walk: _Walk, node: Node, op: Op, seen: Sequence[Statistics]) -> Statistics:
    weight, *bias = (walk.graph.constants[name].astype(np.float64) for name in node.inputs[1:])
    return walk.layer(node, weight, bias[0] if bias else np.zeros(len(weight)), seen[0])


@RULES.rule(ops.MeanSquare)
def _mean_square(walk: _Walk, node: Node, op: ops.MeanSquare, seen: Sequence[Statistics]) -> Statistics:
    return Statistics(np.array([(seen[0].mean ** 2 + seen[0].std ** 2).mean() + op.eps]), np.zeros(1))


@RULES.rule(ops.Rsqrt)
def _rsqrt(walk: _Walk, node: Node, op: ops.Rsqrt, seen: Sequence[Statistics]) -> Statistics:
    """Of a mean over many values, which hardly varies."""
    return Statistics(1 / np.sqrt(np.maximum(seen[0].mean, 1e-12)), np.zeros(len(seen[0].mean)))


@RULES.rule(ops.Unary)
def _unary(walk: _Walk, node: Node, op: ops.Unary, seen: Sequence[Statistics]) -> Statistics:
    return walk.activation(op, seen[0])


@RULES.rule(ops.Mul)
def _product(walk: _Walk, node: Node, op: ops.Mul, seen: Sequence[Statistics]) -> Statistics:
    """Of independent variables, unless one is the gate of the other."""
    gate = gates_itself(walk.graph, node)
    if gate is not None:
        return walk.activation(Gated(gate.op), walk.known[gate.inputs[0]])
    one, other = seen
    mean = one.mean * other.mean
    second = (one.mean**2 + one.std**2) * (other.mean**2 + other.std**2)
    return Statistics(mean, np.sqrt(np.maximum(second - mean**2, 1e-12)))


@RULES.rule(ops.Maximum)
def _maximum(walk: _Walk, node: Node, op: ops.Maximum, seen: Sequence[Statistics]) -> Statistics:
    bent = _bent(walk.graph, node)
    if bent is None:
        raise _unknown(walk, node)
    return walk.activation(bent, seen[0])


def _bent(graph: Graph, node: Node) -> Bent | None:
    """The PReLU that `node` is the end of: the larger of a value and a multiple of it, per channel."""
    value, name = node.inputs
    times = graph.node(name)
    if times is None or not isinstance(times.op, ops.Conv2d) or times.inputs[0] != value:
        return None
    weight = graph.constants[times.inputs[1]].astype(np.float64)
    shifted = len(times.inputs) == 3 and bool(graph.constants[times.inputs[2]].any())
    return None if weight[0].size > 1 or shifted else Bent(weight.reshape(-1))


@RULES.rule(ops.Add)
def _add(walk: _Walk, node: Node, op: ops.Add, seen: Sequence[Statistics]) -> Statistics:
    return Statistics(seen[0].mean + seen[1].mean, np.hypot(seen[0].std, seen[1].std))


@RULES.rule(ops.MaxPool2d, ops.AvgPool2d, ops.GlobalAvgPool, ops.Resize2d)
def _pooled(walk: _Walk, node: Node, op: Op, seen: Sequence[Statistics]) -> Statistics:
    """As they are."""
    return seen[0]


@RULES.rule(ops.Concat)
def _concat(walk: _Walk, node: Node, op: ops.Concat, seen: Sequence[Statistics]) -> Statistics:
    if op.axis != 1:
        raise _unknown(walk, node)
    return Statistics(np.concatenate([s.mean for s in seen]), np.concatenate([s.std for s in seen]))


@RULES.rule(ops.Pad)
def _pad(walk: _Walk, node: Node, op: ops.Pad, seen: Sequence[Statistics]) -> Statistics:
    widths = (op.before[1], op.after[1])
    return Statistics(np.pad(seen[0].mean, widths), np.pad(seen[0].std, widths))


@RULES.rule(ops.Slice)
def _slice(walk: _Walk, node: Node, op: ops.Slice, seen: Sequence[Statistics]) -> Statistics:
    part = slice(op.start[1], op.stop[1], op.step[1])
    return Statistics(seen[0].mean[part], seen[0].std[part])


@RULES.rule(ops.Reshape)
def _reshape(walk: _Walk, node: Node, op: ops.Reshape, seen: Sequence[Statistics]) -> Statistics:
    count = len(seen[0].mean)
    repeat = op.shape[0] // count if op.shape and op.shape[0] % count == 0 else 0
    if not repeat:
        raise _unknown(walk, node)
    return Statistics(np.repeat(seen[0].mean, repeat), np.repeat(seen[0].std, repeat))


@RULES.rule(ops.Permute)
def _permute(walk: _Walk, node: Node, op: ops.Permute, seen: Sequence[Statistics]) -> Statistics:
    """Dimension 1 no longer holds channels: one number for all, which heads end with."""
    count = walk.graph.shapes[node.inputs[0]][op.order[1]]
    return Statistics(np.full(count, seen[0].mean.mean()), np.full(count, np.sqrt((seen[0].std ** 2).mean())))


MOMENTS: OpTable[Callable[[Any, Statistics], tuple[Array, Array]]] = OpTable("has no moments")
"""From an activation function and statistics of Gaussian inputs to first and second moments of its outputs."""


def _activation(op: Op | Gated | Bent, seen: Statistics) -> Statistics:
    """Moments of an activation of Gaussian variables."""
    if isinstance(op, Gated):
        gate = function(op.gate)
        mean, second = _quadrature(lambda x: x * gate(x), seen)
    elif isinstance(op, Bent):
        mean, second = _sloped(op, seen)
    else:
        mean, second = MOMENTS.get(op)(op, seen)
    return Statistics(mean, np.sqrt(np.maximum(second - mean**2, 1e-12)))


def _quadrature(kernel: Callable[[torch.Tensor], torch.Tensor], seen: Statistics) -> tuple[Array, Array]:
    points, weights = np.polynomial.hermite_e.hermegauss(64)  # type: ignore[no-untyped-call]
    x = torch.from_numpy(seen.mean[:, None] + seen.std[:, None] * points)
    outputs: Array = kernel(x).numpy()
    mean, second = (power @ (weights / weights.sum()) for power in (outputs, outputs**2))
    return mean, second


@MOMENTS.rule(ops.Unary)
def _smooth(op: ops.Unary, seen: Statistics) -> tuple[Array, Array]:
    return _quadrature(function(op), seen)


@MOMENTS.rule(ops.Clamp)
def _clamped(op: ops.Clamp, seen: Statistics) -> tuple[Array, Array]:
    return _clipped(seen, op.minimum, op.maximum)


@MOMENTS.rule(ops.LeakyReLU)
def _sloped(op: ops.LeakyReLU | Bent, seen: Statistics) -> tuple[Array, Array]:
    above, above2 = _clipped(seen, 0.0, math.inf)
    mean = op.slope * seen.mean + (1 - op.slope) * above
    return mean, above2 + op.slope**2 * (seen.mean**2 + seen.std**2 - above2)


def _clipped(seen: Statistics, low: float, high: float) -> tuple[Array, Array]:
    """First and second moment of N(mean, std²) limited to [low, high]; infinite limits allowed."""
    mean, std = seen.mean, np.maximum(seen.std, 1e-9)
    below, density_low, edge_low = _normal((low - mean) / std)
    under, density_high, edge_high = _normal((high - mean) / std)
    inside = under - below
    first = mean * inside + std * (density_low - density_high)
    second = (mean**2 + std**2) * inside + 2 * mean * std * (density_low - density_high)
    second += std**2 * (edge_low - edge_high)
    if math.isfinite(low):
        first, second = first + low * below, second + low**2 * below
    if math.isfinite(high):
        first, second = first + high * (1 - under), second + high**2 * (1 - under)
    return first, second


def _normal(z: Array) -> tuple[Array, Array, Array]:
    """Φ(z), φ(z) and z·φ(z), the last 0 at infinity."""
    cumulative = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in np.clip(z, -40, 40)])
    density = np.exp(-0.5 * np.clip(z, -40, 40) ** 2) / math.sqrt(2 * math.pi)
    return cumulative, density, np.clip(z, -40, 40) * density
