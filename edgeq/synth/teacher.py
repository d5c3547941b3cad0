"""The network as a judge of synthetic images: it returns batch-norm moments and logits.

Optionally each call rounds the weights to random bit widths, and shifts the input of strided convolutions (swing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.synth.losses import Moments, batch_moments, stored_moments

__all__ = ["RunningMoments", "Teacher", "resize_input", "round_weight", "swing"]


def resize_input(graph: Graph, side_divisor: int) -> Graph | None:
    """The graph for inputs of height and width divided by `side_divisor`; None where an op insists on its size."""
    (entry,) = graph.inputs
    n, c, h, w = graph.input_shapes[entry]
    if side_divisor == 1:
        return graph
    try:
        smaller = graph.replace(input_shapes={entry: (n, c, h // side_divisor, w // side_divisor)})
    except UnsupportedError:
        return None
    same = all(smaller.shapes[name] == graph.shapes[name] for name in graph.outputs)
    return smaller if same else None


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """`weight` ``(O, ...)`` on a symmetric grid of `bits` bits per output channel."""
    most = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / most
    scale = scale.view(-1, *([1] * (weight.dim() - 1)))
    grid: Tensor = torch.round(weight / scale) * scale
    return grid


def swing(value: Tensor, generator: torch.Generator) -> Tensor:
    """`value` ``(N, C, H, W)`` moved by at most one pixel in both directions, the border reflected; same shape.

    Before a strided convolution this lets every pixel meet every tap of the kernel, where otherwise the same pixels
    always meet the same taps and the image grows a checkerboard (GENIE, arXiv 2212.04780: swing convolution).
    """
    height, width = value.shape[-2:]
    if min(height, width) < 2:
        return value  # nothing to reflect
    top, left = (int(torch.randint(0, 3, (), generator=generator)) for _ in range(2))
    return F.pad(value, (1, 1, 1, 1), mode="reflect")[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class RunningMoments:
    """Moments of `images` finished images, by name of the value; they count beside those of the current batch."""

    images: int
    moments: Mapping[str, Moments]

    def merge(self, seen: Mapping[str, Moments], images: int) -> dict[str, Moments]:
        """Moments of finished and new images together; `seen` are those of `images` new ones, with their gradient."""
        if self.images == 0:
            return dict(seen)
        share = images / (images + self.images)
        together = {}
        for name, new in seen.items():
            old = self.moments[name]
            between = (new.mean - old.mean).square() * (share * (1 - share))
            together[name] = Moments(
                share * new.mean + (1 - share) * old.mean, share * new.var + (1 - share) * old.var + between
            )
        return together


class Teacher:
    """A network with batch norms, read for moments and logits. `stored` are the statistics it remembers.

    `bits`: each call, every weight matrix is rounded to one of these widths or left alone, drawn anew: an ensemble of
    compressed copies that no image can please by fitting one network's weights. `swung`: see `swing`.
    """

    def __init__(self, graph: Graph, *, bits: tuple[int, ...] = (), swung: bool = False) -> None:
        self.graph = graph
        self.stored = stored_moments(graph)
        self.device = torch.device("cpu")
        self._module = GraphModule(graph).eval().requires_grad_(False)
        windows = {n: n.op.sliding_window([graph.shapes[name] for name in n.inputs]) for n in graph.layers()}
        strided = [node for node, window in windows.items() if window is not None and max(window.stride) > 1]
        self._swung = frozenset(node.inputs[0] for node in strided) if swung else frozenset()
        weights = [node.inputs[1] for node in graph.layers()]
        constants = {name: self._module.constant(name) for name in weights if name in graph.constants}
        self._copies = [{name: round_weight(w, width) for name, w in constants.items()} for width in bits]

    def to(self, device: torch.device | None) -> Teacher:
        """Move this teacher to `device`, and return it."""
        if device is not None:
            self.device = device
            self._module = self._module.to(device)
            self.stored = {n: Moments(m.mean.to(device), m.var.to(device)) for n, m in self.stored.items()}
            self._copies = [{n: w.to(device) for n, w in copy.items()} for copy in self._copies]
        return self

    def look(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[dict[str, Moments], Tensor]:
        """Moments at every batch norm and all outputs ``(N, K)``, logits of a classifier, for normalised `images`.

        With a generator the teacher is the random one that images are optimised against, without it the plain network.
        """
        seen: dict[str, Moments] = {}
        swung = self._swung if generator is not None else frozenset()

        def visit(name: str, value: Tensor) -> Tensor | None:
            if name in self.stored:
                seen[name] = batch_moments(value)
            return swing(value, generator) if generator is not None and name in swung else None

        constants = None
        if generator is not None and self._copies:
            pick = int(torch.randint(0, len(self._copies) + 1, (), generator=generator))
            constants = self._copies[pick] if pick < len(self._copies) else None
        answers = self._module.run(images, visit, constants=constants)
        return seen, torch.cat([answers[name].flatten(1) for name in self.graph.outputs], 1)

    @torch.no_grad()
    def measure_moments(self, images: Tensor, part: int = 64) -> RunningMoments:
        """The moments of finished images, computed `part` images at a time; they are on the teacher's device."""
        total = RunningMoments(0, {})
        for some in torch.split(images, part):
            seen, _ = self.look(some.to(self.device))
            total = RunningMoments(total.images + len(some), total.merge(seen, len(some)))
        return total

    @torch.no_grad()
    def classes(self, images: Tensor, part: int = 64) -> Tensor:
        """The class that the unmodified network assigns to each image, int64 ``(N,)``, on the device of the images."""
        classes = [self.look(some.to(self.device))[1].argmax(1) for some in torch.split(images, part)]
        return torch.cat(classes).to(images.device)
