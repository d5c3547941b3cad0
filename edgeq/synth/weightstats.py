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
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    Add,
    AvgPool2d,
    Clamp,
    Concat,
    Conv2d,
    GlobalAvgPool,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    MeanSquare,
    Mul,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Rsqrt,
    Shape,
    Slice,
    Unary,
)
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
        if isinstance(node.op, Conv2d):
            out_channels, per_group = weight.shape[:2]
            groups = node.op.groups
            rows = np.arange(out_channels) // (out_channels // groups)
            columns = rows[:, None] * per_group + np.arange(per_group)
            taps, power = weight.sum((2, 3)), (weight**2).sum((2, 3))
            mean, var = (taps * seen.mean[columns]).sum(1), (power * seen.std[columns] ** 2).sum(1)
        else:
            mean, var = weight @ seen.mean, weight**2 @ seen.std**2
        return Statistics(mean + bias, np.sqrt(np.maximum(var, 1e-12)))

    return _walk(graph, layer, _activation)


Layer = Callable[[Node, Array, Array, Statistics], Statistics]


def _walk(graph: Graph, layer: Layer, activation: Callable[[Any, Statistics], Statistics]) -> dict[str, Statistics]:
    """Statistics before activation of every convolution and linear; `layer` and `activation` are each method's own."""
    channels = graph.shapes[graph.inputs[0]][1]
    known = {graph.inputs[0]: Statistics(np.zeros(channels), np.ones(channels))}
    layers: dict[str, Statistics] = {}
    for node in graph.nodes:
        seen = [known[name] for name in graph.activations(node)]
        if isinstance(node.op, (Conv2d, Linear)):
            weight = graph.constants[node.inputs[1]].astype(np.float64)
            has_bias = len(node.inputs) == 3
            bias = graph.constants[node.inputs[2]].astype(np.float64) if has_bias else np.zeros(len(weight))
            now = layers[node.name] = layer(node, weight, bias, seen[0])
        elif isinstance(node.op, MeanSquare):
            now = Statistics(np.array([(seen[0].mean ** 2 + seen[0].std ** 2).mean() + node.op.eps]), np.zeros(1))
        elif isinstance(node.op, Rsqrt):  # of a mean over many values, which hardly varies
            now = Statistics(1 / np.sqrt(np.maximum(seen[0].mean, 1e-12)), np.zeros(len(seen[0].mean)))
        elif isinstance(node.op, (Clamp, LeakyReLU, Unary)):
            now = activation(node.op, seen[0])
        elif isinstance(node.op, Mul):
            gate = gates_itself(graph, node)
            now = _product(*seen) if gate is None else activation(Gated(gate.op), known[gate.inputs[0]])
        elif isinstance(node.op, Maximum):
            bent = _bent(graph, node)
            now = activation(bent, seen[0]) if bent else _moved(node, seen, [])
        elif isinstance(node.op, Add):
            now = Statistics(seen[0].mean + seen[1].mean, np.hypot(seen[0].std, seen[1].std))
        else:
            now = _moved(node, seen, [graph.shapes[name] for name in graph.activations(node)])
        fused = getattr(node.op, "activation", None)
        known[node.name] = now if fused is None else activation(fused, now)
    return layers


def _product(one: Statistics, other: Statistics) -> Statistics:
    """Of independent variables."""
    mean = one.mean * other.mean
    second = (one.mean**2 + one.std**2) * (other.mean**2 + other.std**2)
    return Statistics(mean, np.sqrt(np.maximum(second - mean**2, 1e-12)))


def _bent(graph: Graph, node: Node) -> Bent | None:
    """The PReLU that `node` is the end of: the larger of a value and a multiple of it, per channel."""
    value, name = node.inputs
    times = next((n for n in graph.nodes if n.name == name), None)
    if times is None or not isinstance(times.op, Conv2d) or times.inputs[0] != value:
        return None
    weight = graph.constants[times.inputs[1]].astype(np.float64)
    shifted = len(times.inputs) == 3 and bool(graph.constants[times.inputs[2]].any())
    return None if weight[0].size > 1 or shifted else Bent(weight.reshape(-1))


def _moved(node: Node, seen: Sequence[Statistics], shapes: Sequence[Shape]) -> Statistics:
    """Ops that move values: statistics follow their channels. Pooling leaves them as they are."""
    op, first = node.op, seen[0]
    if isinstance(op, Concat) and op.axis == 1:
        return Statistics(np.concatenate([s.mean for s in seen]), np.concatenate([s.std for s in seen]))
    if isinstance(op, Pad):
        widths = (op.before[1], op.after[1])
        return Statistics(np.pad(first.mean, widths), np.pad(first.std, widths))
    if isinstance(op, Slice):
        part = slice(op.start[1], op.stop[1], op.step[1])
        return Statistics(first.mean[part], first.std[part])
    if isinstance(op, Reshape):
        repeat = op.shape[0] // len(first.mean) if op.shape and op.shape[0] % len(first.mean) == 0 else 0
        if repeat:
            return Statistics(np.repeat(first.mean, repeat), np.repeat(first.std, repeat))
    if isinstance(op, Permute):  # dimension 1 no longer holds channels: one number for all, which heads end with
        count = shapes[0][op.order[1]]
        return Statistics(np.full(count, first.mean.mean()), np.full(count, np.sqrt((first.std**2).mean())))
    if isinstance(op, (MaxPool2d, AvgPool2d, GlobalAvgPool, Resize2d)):
        return first
    raise UnsupportedError(
        f"gzsq cannot carry statistics through {type(op).__name__}", where=node.name, why=f"shapes {list(shapes)}",
        hint="use --method gznq on the network before its batch norms are folded",
    )  # fmt: skip


def _activation(op: Clamp | LeakyReLU | Unary | Gated | Bent, seen: Statistics) -> Statistics:
    """Moments of an activation of Gaussian variables."""
    if isinstance(op, (Unary, Gated)):
        points, weights = np.polynomial.hermite_e.hermegauss(64)  # type: ignore[no-untyped-call]
        x = torch.from_numpy(seen.mean[:, None] + seen.std[:, None] * points)
        made: Array = (function(op)(x) if isinstance(op, Unary) else x * function(op.gate)(x)).numpy()
        mean, second = (power @ (weights / weights.sum()) for power in (made, made**2))
    elif isinstance(op, Clamp):
        mean, second = _clipped(seen, op.minimum, op.maximum)
    else:
        above, above2 = _clipped(seen, 0.0, math.inf)
        mean = op.slope * seen.mean + (1 - op.slope) * above
        second = above2 + op.slope**2 * (seen.mean**2 + seen.std**2 - above2)
    return Statistics(mean, np.sqrt(np.maximum(second - mean**2, 1e-12)))


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
