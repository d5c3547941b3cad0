"""Activation statistics out of learned weights: random pictures measured layer by layer, corrected by the biases.

`estimate_learned` gives a mean and a standard deviation per channel for the output of every convolution of a network
whose batch norms are absent or folded. It needs no data and no stored statistics. Three things go into it:

- Dead-leaves pictures are sent through the network. Unlike the formulas of `edgeq.synth.weightstats`, they measure the
  variance of a dot product with the spatial and channel correlation that pictures have.
- A learned bias cancels the mean of what its layer reads, because training keeps activations centred: behind a batch
  norm the mean of an output is its shift, and shifts are small beside spreads. So a layer's weights and biases say what
  the mean of its input was in training. The correction is the posterior mean of a Gaussian model (below).
- Every layer's output is given the estimated mean and spread before the next layer reads it, so that errors do not add
  up with depth. If the biases of a layer ask for a larger input than the pictures give, the layers that produce that
  input are made louder and the pictures are sent through once more.

The model of one layer, in units of the spreads of its outputs: the means z that the pictures show differ from those of
training by B e, where e ~ N(0, a²) are errors of the input's means in its own spreads and B = W diag(spread of input),
taps summed. Those of training are nu + N(0, s²). a and s are chosen per layer by their marginal likelihood. This is
edgeq's own and not in the paper of GZSQ. docs/explanation/methods/gzsq.md shows what each part gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.graph import ops
from edgeq.graph.ir import Graph, Node
from edgeq.graph.run import GraphModule
from edgeq.graph.run.memory import channels_last
from edgeq.synth.losses import batch_moments
from edgeq.synth.weightstats import Statistics

__all__ = ["Prior", "estimate_learned", "statistics_layers"]

Array = npt.NDArray[np.float64]

_SHIFTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5)
_ERRORS = (0.03, 0.06, 0.1, 0.2, 0.3, 0.45)
"""Candidates for s and a."""

_ACTIVATIONS = (ops.Clamp, ops.LeakyReLU, ops.Unary)
_PASSED = (ops.Pad, ops.MaxPool2d, *_ACTIVATIONS)
"""Ops behind which the size of a value still follows from the spread of the layer that made it."""

_TINY = 1e-9


@dataclass(frozen=True)
class Prior:
    """What is assumed of learned networks, in spreads of the output. Chosen on networks whose batch norms were hidden.

    `shift` and `shift_spread`: mean of an output before an activation, common to a layer; outputs that no activation
    reads have mean 0 and `linear_spread`. `error` and `scatter`: medians of a and s, each with the standard deviation
    of its logarithm. A mean further than `outlier` from the expected one is taken as it is. `loudness` is the
    standard deviation of the relative error of an input's size, `step` the share of it that one pass corrects, and
    `loudest` the largest correction of a layer's spread.
    """

    shift: float = -0.2
    shift_spread: float = 0.4
    linear_spread: float = 0.05
    error: tuple[float, float] = (0.2, 0.6)
    scatter: tuple[float, float] = (0.4, 1.0)
    outlier: float = 2.5
    loudness: float = 0.3
    step: float = 0.3
    loudest: float = 1.2


def estimate_learned(
    graph: Graph, pictures: Tensor, prior: Prior | None = None, passes: int = 2
) -> dict[str, Statistics]:
    """Mean and standard deviation per channel of every convolution's output, by name, before its activation.

    `graph` has no batch norm; `pictures` are normalised inputs ``(N, C, H, W)``, of which 16 are enough. A convolution
    with a fused activation is left out. With one of the `passes`, spreads stay as the pictures give them.
    """
    walk = _Walk(graph, prior or Prior())
    for step in range(passes):
        walk.send(pictures)
        if step + 1 < passes:
            walk.amplify()
    return {name: walk.found[name] for name in walk.layers}


def statistics_layers(graph: Graph) -> list[Node]:
    """The convolutions whose outputs have statistics, in order: all but heads, which no other layer reads.

    Every image moves few outputs of a classifier, so that the moments of a batch say nothing about them.
    """
    read: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op.is_layer or node.name in read:
            read.update(graph.activations(node))
    kept = [node for node in graph.of_kind(ops.Conv2d) if node.name in read]
    return [node for node in kept if node.op.fused_activation is None and node.inputs[1] in graph.constants]


class _Walk:
    """A graph, the statistics `found` so far, and the factor by which each layer is louder than the pictures say."""

    def __init__(self, graph: Graph, prior: Prior) -> None:
        self.graph, self.prior = graph, prior
        self.network = GraphModule(graph).eval().requires_grad_(False)
        self.layers = {node.name: node for node in statistics_layers(graph)}
        self.inputs = {node.inputs[0] for node in self.layers.values()}
        self.sources = {name: self._sources(node.inputs[0]) for name, node in self.layers.items()}
        self.activated = {name for name in self.layers if self._is_activated(name)}
        self.loudness = dict.fromkeys(self.layers, 1.0)
        self.found: dict[str, Statistics] = {}
        self.votes: dict[str, list[float]] = {}

    def _is_activated(self, name: str) -> bool:
        return any(isinstance(reader.op, _ACTIVATIONS) for reader in self.graph.consumers()[name])

    def _sources(self, value: str) -> list[str]:
        """The layers behind an activation that set the size of `value`; none if no activation is between."""
        node, activated = self.graph.node(value), False
        while node is not None and isinstance(node.op, _PASSED):
            activated |= isinstance(node.op, _ACTIVATIONS)
            node = self.graph.node(node.inputs[0])
        if node is None or not activated:
            return []
        made = node.inputs if isinstance(node.op, ops.Add) else (node.name,)
        return [name for name in made if name in self.layers]

    @torch.no_grad()
    def send(self, pictures: Tensor) -> None:
        """Send the pictures through; fills `found` and `votes`."""
        self.votes = {}
        entry = self.graph.inputs[0]
        seen = {entry: _moments(pictures)}

        def correct(name: str, value: Tensor) -> Tensor | None:
            changed = None
            if name in self.layers:
                shown = _moments(value)
                louder = Statistics(shown.mean, shown.std * self.loudness[name])
                wanted = self._corrected(self.layers[name], seen[self.layers[name].inputs[0]], louder)
                self.found[name] = wanted
                changed = _renormalise(value, shown, wanted)
            if name in self.inputs:
                seen[name] = _moments(value if changed is None else changed)
            return changed

        self.network.run(channels_last(pictures), visit=correct)

    def amplify(self) -> None:
        """Make layers louder whose readers ask for it; never quieter, as random shapes hold no objects."""
        for name, asked in self.votes.items():
            factor = self.loudness[name] * (1 + self.prior.step * float(np.mean(asked)))
            self.loudness[name] = float(np.clip(factor, 1.0, self.prior.loudest))

    def _corrected(self, node: Node, read: Statistics, shown: Statistics) -> Statistics:
        """Statistics of the output of `node` that agree with its biases, from those of its input and of its output."""
        if len(node.inputs) < 3 or node.inputs[2] not in self.graph.constants:
            return shown
        weight = self.graph.constants[node.inputs[1]].astype(np.float64)
        evidence = _evidence(weight, node, read, shown, self.prior, activated=node.name in self.activated)
        if evidence is None:
            return shown
        mean, louder = evidence
        for source in self.sources[node.name]:
            self.votes.setdefault(source, []).append(louder)
        return Statistics(mean, shown.std)


def _moments(value: Tensor) -> Statistics:
    moments = batch_moments(value)
    mean, var = (part.double().numpy() for part in (moments.mean, moments.var))
    return Statistics(mean, np.sqrt(var))


def _renormalise(value: Tensor, shown: Statistics, wanted: Statistics) -> Tensor:
    factor = np.where(shown.std > _TINY, wanted.std / np.maximum(shown.std, _TINY), 1.0)
    shape = (1, -1, *([1] * (value.dim() - 2)))
    scale, shift = (torch.from_numpy(v).float().view(shape) for v in (factor, wanted.mean - factor * shown.mean))
    return torch.addcmul(shift, value, scale)


def _evidence(
    weight: Array, node: Node, read: Statistics, shown: Statistics, prior: Prior, *, activated: bool
) -> tuple[Array, float] | None:
    """Posterior mean of the outputs ``(O,)``, and by which share the input is larger than it was shown."""
    unit = np.maximum(shown.std, _TINY)
    taps = weight.sum((2, 3)) / unit[:, None]
    expected = prior.shift if activated else 0.0
    off = shown.mean / unit - expected
    usual = np.abs(off) <= prior.outlier
    if usual.sum() < 4:
        return None
    factors, size = _spread_out(taps, node, read)
    common = (prior.shift_spread if activated else prior.linear_spread) ** 2
    scatter, error = _likeliest(factors, off, usual, common, prior)
    noise = scatter**2 + np.where(usual, 0.0, off**2)
    model = _Covariance(noise, error**2, factors, common)
    solved, weighed = model.solve(off), model.solve(size)
    louder = -float(size @ solved) / (float(size @ weighed) + prior.loudness**-2)
    moved = error**2 * (factors * solved * factors if factors.ndim == 1 else factors @ (factors.T @ solved))
    return shown.mean - unit * moved, louder


def _spread_out(taps: Array, node: Node, read: Statistics) -> tuple[Array, Array]:
    """B ``(O, C)`` of the model, or its only entries ``(O,)`` if it is depthwise, and the change of outputs ``(O,)``
    for an input twice as large."""
    outputs, per_group = taps.shape
    groups = len(read.mean) // per_group
    rows = np.arange(outputs) // (outputs // groups)
    columns = rows[:, None] * per_group + np.arange(per_group)
    size = (taps * read.mean[columns]).sum(1)
    if per_group == 1 and outputs == groups:
        return taps[:, 0] * read.std, size
    dense = np.zeros((outputs, len(read.mean)))
    np.put_along_axis(dense, columns, taps * read.std[columns], 1)
    return dense, size


def _likeliest(
    factors: Array, off: Array, usual: npt.NDArray[np.bool_], common: float, prior: Prior
) -> tuple[float, float]:
    """(s, a) of the largest posterior density among the candidates, given outputs that are no outliers."""
    off, factors = off[usual], factors[usual]
    ones: Array = np.ones(len(off))
    rest, power = np.zeros(3), np.square(off)
    if factors.ndim == 1:
        power, along, constant = factors**2, off, ones
    else:
        axes, singular, _ = np.linalg.svd(factors, full_matrices=False)
        power, along, constant = singular**2, axes.T @ off, axes.T @ ones
        rest = np.array([off @ off - along @ along, ones @ ones - constant @ constant, off @ ones - along @ constant])
    hidden = len(off) - len(power)
    best, found = -np.inf, (prior.scatter[0], prior.error[0])
    for scatter in _SHIFTS:
        for error in _ERRORS:
            variance = scatter**2 + error**2 * power
            squares, ends, both = (
                float((v / variance).sum() + left / scatter**2)
                for v, left in zip((along**2, constant**2, along * constant), rest, strict=True)
            )
            fit = squares - common * both**2 / (1 + common * ends)
            size = np.log(variance).sum() + hidden * np.log(scatter**2) + np.log1p(common * ends)
            unlikely = sum(
                (np.log(value / median) / width) ** 2
                for value, (median, width) in ((scatter, prior.scatter), (error, prior.error))
            )
            density = -0.5 * (fit + size + unlikely)
            if density > best:
                best, found = density, (scatter, error)
    return found


class _Covariance:
    """diag(noise) + power B Bᵀ + common 1 1ᵀ, solved by the Woodbury identity."""

    def __init__(self, noise: Array, power: float, factors: Array, common: float) -> None:
        ones = np.full((len(noise), 1), np.sqrt(common))
        if factors.ndim == 1:
            noise, wide = noise + power * factors**2, ones
        else:
            wide = np.hstack([np.sqrt(power) * factors, ones])
        self.noise, self.wide = noise, wide
        self.inner = np.eye(wide.shape[1]) + (wide.T / noise) @ wide

    def solve(self, right: Array) -> Array:
        """The inverse times `right` ``(O,)``."""
        scaled = right / self.noise
        inner: Array = np.linalg.solve(self.inner, self.wide.T @ scaled)
        found: Array = scaled - (self.wide @ inner) / self.noise
        return found
