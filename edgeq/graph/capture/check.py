"""A captured graph is compared with its network on one image: what tracing froze, and what a rule got wrong, shows."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree
from torch import Tensor, nn

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.capture.torch_export import in_eval_mode, quiet
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule

__all__ = ["confirm"]

REPEATED = 1e-5
"""Largest difference of two runs on one image, in the largest value: threads may add in another order."""
CAPTURED = 1e-2
"""Largest relative difference between network and graph, which round differently at every layer, and in 16 bits where
the network does."""


def confirm(module: nn.Module, graph: Graph, left_out: Collection[int] = (), *, angles: bool = False) -> None:
    """Raise `UnsupportedError` unless `module` answers twice alike, and as `graph` does.

    `left_out` are the places, in the network's flattened answer, of outputs that the graph does not compute.

    Python's and NumPy's random numbers, clocks and counters leave no call in a traced program. They are found by the
    network's own two answers; that torch's random numbers are drawn anew for each is part of it. `angles`: the network
    normalises what the graph answers.
    """
    (shape,) = graph.input_shapes.values()
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(next(floats, torch.float32))
    with torch.no_grad(), quiet(), in_eval_mode(module), torch.random.fork_rng(devices=[]):
        try:
            first, second = (_tensors(module(image.clone()), left_out) for _ in range(2))
        except (Exception, SystemExit) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ConfigError("the network does not run on its input", where=graph.name, why=line) from error
        captured = _tensors(GraphModule(graph)(image.float()))
        captured = [F.normalize(answer) for answer in captured] if angles else captured
    if _apart(first, second, REPEATED):
        raise UnsupportedError(
            "the network answers one image in two ways",
            where=graph.name,
            why="it draws random numbers, or keeps a state, outside torch's calls",
            hint="make forward depend on the image and the weights alone",
        )
    if _apart(first, captured, CAPTURED):
        raise UnsupportedError(
            "the captured network answers otherwise than torch",
            where=graph.name,
            why="a call reads what tracing has frozen, or edgeq reads a call wrongly",
            hint="if forward depends on the image and the weights alone, this is a bug in edgeq, please report it",
        )


def _tensors(answer: object, left_out: Collection[int] = ()) -> list[Tensor]:
    leaves = [leaf for place, leaf in enumerate(pytree.tree_leaves(answer)) if place not in left_out]
    return [leaf.float() for leaf in leaves if isinstance(leaf, Tensor)]


def _apart(left: list[Tensor], right: list[Tensor], most: float) -> bool:
    """Do any two differ by more than `most` of their largest value? What is not finite says nothing.

    Dimensions of size 1 may differ: a file's answer keeps the batch, where the network's may be one bare number.
    """
    if [_sizes(t) for t in left] != [_sizes(t) for t in right]:
        return True
    pairs = [
        (a, b.reshape(a.shape)) for a, b in zip(left, right, strict=True) if bool((a.isfinite() & b.isfinite()).all())
    ]
    return any(float((a - b).abs().max()) > most * float(a.abs().max()) + 1e-9 for a, b in pairs if a.numel())


def _sizes(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]
