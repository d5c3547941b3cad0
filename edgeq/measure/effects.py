"""What rounding some weights and values of a network does to its answers, the rest of it staying float.

The rounded network is simulated in float, on the grids that the integers will have. Where layers are studied one by
one, biases take up mean errors as they do in a build (`edgeq.quant.biascorrect`), on the images themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.graph.ir import Graph, Node
from edgeq.graph.run import GraphModule
from edgeq.quant.calibrate import Calibration
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation
from edgeq.quant.specify import keeps_grid

__all__ = ["Answers", "Effect", "LayerEffect", "SimulatedNetwork", "decibels", "distance"]

Answers = list[Tensor]
"""Every output of a network on all images, each ``(N, ...)``."""

Correction = Callable[[Node, Tensor], Tensor]
"""Puts the bias right of a layer's results before its activation."""

BEST = 120.0
"""Decibels of a signal without noise."""


@dataclass(frozen=True)
class Effect:
    """How far answers are from the float network's.

    `noise` is the mean squared difference in units of the variance between images, the mean over all outputs. `same` is
    the share of images (of pixels, where the answer is a map) whose best class is the float network's; None where
    outputs are no scores of classes.
    """

    noise: float
    same: float | None


@dataclass(frozen=True)
class LayerEffect:
    """Noise of the answers when only the `weights` of one node are rounded, only its output (`activation`), or both
    (`alone`), and when everything but this node is (`spared`), of `all_rounded` where everything is."""

    weights: float
    activation: float
    alone: float
    spared: float
    all_rounded: float

    @property
    def share(self) -> float:
        """The share of the whole noise that goes when this node alone stays float; 0 where it does not fall."""
        return max(0.0, 1 - self.spared / self.all_rounded) if self.all_rounded > 0 else 0.0


def decibels(noise: float) -> float:
    """Signal to noise ratio in dB of a relative `noise`."""
    return min(BEST, -10 * math.log10(noise)) if noise > 0 else BEST


def distance(real: Answers, other: Answers, *, ranked: bool) -> Effect:
    """The effect that made `other` of the float network's answers `real`; `ranked` where outputs score classes."""
    noises = [
        float((b - a).double().square().mean() / a.double().var(0, correction=0).mean().clamp_min(1e-30))
        for a, b in zip(real, other, strict=True)
    ]
    same = float((real[0].argmax(1) == other[0].argmax(1)).double().mean()) if ranked else None
    return Effect(float(np.mean(noises)), same)


class SimulatedNetwork:
    """An equalized float `graph` on the grids of `calibration`, any part of it rounded. `images` are normalised
    ``(N, C, H, W) float32``."""

    def __init__(
        self, graph: Graph, calibration: Calibration, images: npt.NDArray[np.float32], *, ranked: bool
    ) -> None:
        self.graph, self.calibration, self.ranked = graph, calibration, ranked
        self.images = torch.from_numpy(images)
        rounded = simulation(calibration.rounded(graph), calibration.weights)
        self._module = GraphModule(simulation(graph, {})).eval()
        self._rounded = {name: torch.from_numpy(rounded.constants[name]) for name in calibration.weights}
        self._results = {
            node.name + LINEAR if node.op.fused_activation is not None else node.name: node for node in graph.layers()
        }
        self._means: dict[str, Tensor] = {}
        self.real = self._run(frozenset(), frozenset(), self._remember)

    @property
    def rounding_values(self) -> frozenset[str]:
        """Values that are rounded to a grid where they are made; others have the grid of what they are made of."""
        grids = self.calibration.activations
        makers = {n.name for n in self.graph.nodes if n.name in grids and not keeps_grid(n, grids[n.name].bits or 8)}
        return frozenset(makers | {name for name in self.graph.inputs if name in grids})

    @torch.no_grad()
    def built(self) -> Effect:
        """The effect of rounding everything, with the biases of the calibration."""
        corrections = self.calibration.bias_corrections

        def correct(node: Node, value: Tensor) -> Tensor:
            shift = corrections.get(node.name)
            return value if shift is None else _add(value, torch.from_numpy(np.asarray(shift)))

        return self._compare(frozenset(self._rounded), self.rounding_values, correct)

    @torch.no_grad()
    def layer_effects(self) -> dict[str, LayerEffect]:
        """The effect of every node that rounds anything, by name."""
        values, weights = self.rounding_values, frozenset(self._rounded)
        whole = self._compare(weights, values, self._correct).noise
        effects = {}
        for node in self.graph.nodes:
            own = frozenset(node.inputs[1:2]) & weights if node.op.is_layer else frozenset()
            made = frozenset({node.name}) & values
            if not own and not made:
                continue
            by_weights = self._compare(own, frozenset(), self._correct).noise if own else 0.0
            by_value = self._compare(frozenset(), made, self._correct).noise if made else 0.0
            both = self._compare(own, made, self._correct).noise if own and made else by_weights + by_value
            spared = self._compare(weights - own, values - made, self._correct).noise
            effects[node.name] = LayerEffect(by_weights, by_value, both, spared, whole)
        return effects

    @torch.no_grad()
    def weight_noises(self) -> dict[str, float]:
        """The noise of the answers when only the weights of one layer are rounded, by the layer's name."""
        return {
            node.name: self._compare(node.inputs[1:2], frozenset(), self._correct).noise for node in self.graph.layers()
        }

    def _compare(self, weights: Collection[str], values: Collection[str], correct: Correction) -> Effect:
        return distance(self.real, self._run(weights, values, correct), ranked=self.ranked)

    def _correct(self, node: Node, value: Tensor) -> Tensor:
        return _add(value, self._means[node.name] - _channel_means(value))

    def _remember(self, node: Node, value: Tensor) -> Tensor:
        self._means[node.name] = _channel_means(value)
        return value

    @torch.no_grad()
    def _run(self, weights: Collection[str], values: Collection[str], correct: Correction) -> Answers:
        grids = self.calibration.activations

        def visit(name: str, value: Tensor) -> Tensor:
            if name in self._results:
                value = correct(self._results[name], value)
            return fake_quantize(value, grids[name]) if name in values else value

        constants = {name: self._rounded[name] for name in weights}
        outputs = self._module.run(self.images, visit, constants=constants)
        return [outputs[name] for name in self.graph.outputs]


def _channel_means(value: Tensor) -> Tensor:
    return value.double().transpose(0, 1).flatten(1).mean(1)


def _add(value: Tensor, shift: Tensor) -> Tensor:
    return value + shift.to(value.dtype).view(1, -1, *([1] * (value.dim() - 2)))
