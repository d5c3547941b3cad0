"""Sensitivity: what rounding a channel of an activation, or a weight, does to the network's outputs.

First order: an error e of a value changes an output by the gradient of that output times e. Outputs are many, so they
are joined by random signs, anew for every image: the square of the joined change has the sum of all outputs' squared
changes as its mean (Hutchinson 1989). The errors are those that rounding really makes, so where a region of an image is
flat and all of it rounds the same way, they add up as they do in the integer network.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.quant.observe import not_finite_error

__all__ = ["FINEST", "STEPS", "ChannelErrors", "Sensitivity", "measure_sensitivity"]

FINEST, STEPS = 256, 8
"""Steps that are tried: a channel's range divided by `FINEST`, and `STEPS` - 1 times the double of the one before."""

IMAGES = 16
"""How many images gradients are taken of; all images count for the range of a channel."""

HELD = 2**25
"""How many values of all activations are held at once, with as many gradients: a quarter of a gigabyte."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChannelErrors:
    """An activation: `lowest` and `highest` value of each channel ``(C,)``, 0 included, and the squared change of all
    outputs together when a channel is rounded in steps of ``(highest - lowest) / FINEST * 2**k``, ``(C, STEPS)``."""

    lowest: Array
    highest: Array
    errors: Array


@dataclass(frozen=True)
class Sensitivity:
    """`activations` by name, and `weights`: the mean squared gradient of the outputs by each weight, by name."""

    activations: Mapping[str, ChannelErrors]
    weights: Mapping[str, npt.NDArray[np.float32]]


@torch.enable_grad()
def measure_sensitivity(graph: Graph, images: npt.NDArray[np.float32], names: Collection[str]) -> Sensitivity:
    """Measure how sensitive the outputs of a float `graph` are to its values `names` and to the weights of its layers.

    `images` are ``(N, C, H, W)``. Raises `UnsupportedError` for values that are not finite.
    """
    module = GraphModule(graph).eval()
    spans = _spans(module, images, names)
    totals = {name: torch.zeros(len(span[0]), STEPS, dtype=torch.float64) for name, span in spans.items()}
    weights: dict[str, Tensor] = {}
    random = torch.Generator().manual_seed(0)
    chosen = torch.from_numpy(images[np.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().astype(int)])
    held = sum(int(np.prod(graph.shapes[node.name][1:])) for node in graph.nodes)
    layers = [node.inputs[1] for node in graph.layers()]
    for some in torch.split(chosen, max(1, min(IMAGES, HELD // held))):
        copies = {name: module.constant(name).detach().clone().requires_grad_() for name in layers}
        values: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor, values: dict[str, Tensor] = values) -> None:
            if name in totals:
                values[name] = value

        outputs = module.run(some, visit=keep, constants=copies)
        joined = torch.stack([_join(outputs[name], random) for name in graph.outputs]).sum()
        wanted = [*values.values(), *copies.values()]
        gradients = torch.autograd.grad(joined, wanted, materialize_grads=True)
        for (name, value), gradient in zip(values.items(), gradients, strict=False):
            totals[name] += _errors(value.detach(), gradient, *spans[name])
        for name, gradient in zip(copies, gradients[len(values) :], strict=True):
            weights[name] = weights.get(name, torch.zeros(())) + gradient.square()
    count = len(chosen)
    activations = {
        name: ChannelErrors(spans[name][0].double().numpy(), spans[name][1].double().numpy(), (total / count).numpy())
        for name, total in totals.items()
    }
    return Sensitivity(activations, {name: (total / count).numpy() for name, total in weights.items()})


@torch.no_grad()
def _spans(
    module: GraphModule, images: npt.NDArray[np.float32], names: Collection[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """The lowest and the highest value of each channel ``(C,)``, 0 included."""
    spans: dict[str, tuple[Tensor, Tensor]] = {}

    def widen(name: str, value: Tensor) -> None:
        if name in names:
            low, high = torch.aminmax(value.transpose(0, 1).flatten(1), dim=1)
            if not bool(torch.isfinite(high - low).all()):
                raise not_finite_error(name)
            before = spans.get(name, (torch.zeros(()), torch.zeros(())))
            spans[name] = torch.minimum(low, before[0]), torch.maximum(high, before[1])

    for some in torch.split(torch.from_numpy(images), IMAGES):
        module.run(some, visit=widen)
    return spans


def _join(output: Tensor, random: torch.Generator) -> Tensor:
    """One number out of an output ``(N, ...)``: the sum of its elements with random signs, in its deviations."""
    signs = torch.randint(0, 2, output.shape, generator=random).to(output.dtype) * 2 - 1
    return (output * signs).sum() / output.detach().std(unbiased=False).clamp_min(1e-12)


@torch.no_grad()
def _errors(value: Tensor, gradient: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Sum over images of the squared change, by channel and step ``(C, STEPS)``; what an error is on average is left
    out, as biases take it up."""
    shape = (1, -1, *([1] * (value.dim() - 2)))
    over = [dim for dim in range(value.dim()) if dim != 1]
    finest = ((high - low).clamp_min(1e-30) / FINEST).view(shape)
    columns = []
    for k in range(STEPS):
        ratio = value / (finest * 2**k)
        error = ratio.round().sub_(ratio)
        error -= error.mean(over, keepdim=True)
        change = (error.mul_(gradient)).flatten(2).sum(2) if value.dim() > 2 else error.mul_(gradient)
        columns.append((change.double() * (finest * 2**k).view(1, -1)).square().sum(0))
    return torch.stack(columns, 1)
