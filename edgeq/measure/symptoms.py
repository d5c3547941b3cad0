"""What can be seen of each node before anything is rounded: clipping, channels, biases and joins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.graph.ir import Graph
from edgeq.graph.ops import Concat
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import Quantization
from edgeq.quant.calibrate import Calibration
from edgeq.quant.fit_kernels import fit_kernels

__all__ = ["OUTLIER", "Symptoms", "find_symptoms"]

OUTLIER = 8.0
"""How many times as far as the median channel an outlier channel reaches: three of eight bits are then lost to it."""

BATCH = 16
"""Images that run at once."""


@dataclass(frozen=True)
class Symptoms:
    """One node.

    `clipped` is the share of float values beyond the grid. `channel_ratio` is how far the largest channel reaches, in
    reaches of the median channel that is not dead, and `outliers` are the channels beyond `OUTLIER` of them. `dead`
    channels have one value on all images. `fewer_levels` counts channels whose weights have fewer levels because bias
    and products would leave 32 bits. `joined` is the name of the Concat that reads the value, and `joined_ratio` how
    many times as wide their common grid is as the value's own range.
    """

    clipped: float
    channel_ratio: float
    outliers: tuple[int, ...]
    dead: int
    fewer_levels: int
    joined: str
    joined_ratio: float


@torch.no_grad()
def find_symptoms(graph: Graph, calibration: Calibration, images: npt.NDArray[np.float32]) -> dict[str, Symptoms]:
    """Symptoms of every node of an equalized float `graph` that has a grid, on normalised `images` ``(N, C, H, W)``."""
    lows: dict[str, Tensor] = {}
    highs: dict[str, Tensor] = {}
    beyond: dict[str, tuple[float, int]] = {}
    grids = calibration.activations

    def look(name: str, value: Tensor) -> None:
        if name not in grids:
            return
        low, high = torch.aminmax(value.transpose(0, 1).flatten(1), dim=1)
        lows[name] = torch.minimum(lows.get(name, low), low)
        highs[name] = torch.maximum(highs.get(name, high), high)
        bottom, top = _ends(grids[name])
        count, total = beyond.get(name, (0.0, 0))
        beyond[name] = count + float(((value < bottom) | (value > top)).sum()), total + value.numel()

    module = GraphModule(graph).eval()
    for some in torch.split(torch.from_numpy(images), BATCH):
        module.run(some, visit=look)
    fitted = fit_kernels(graph, grids, calibration.weights, calibration.bias_corrections)
    joins = {name: node.name for node in graph.of_kind(Concat) for name in node.inputs}
    found = {}
    for node in graph.nodes:
        if node.name not in lows:
            continue
        reach = torch.maximum(-lows[node.name], highs[node.name]).numpy()
        dead = (highs[node.name] == lows[node.name]).numpy()
        usual = float(np.median(reach[~dead])) if not dead.all() else 0.0
        ratio = float(reach.max() / usual) if usual > 0 else 1.0
        bottom, top = _ends(grids[node.name])
        own = float(highs[node.name].max().clamp_min(0) - lows[node.name].min().clamp_max(0))
        count, total = beyond[node.name]
        found[node.name] = Symptoms(
            clipped=count / total,
            channel_ratio=ratio,
            outliers=tuple(np.flatnonzero(reach > OUTLIER * usual).tolist()) if usual > 0 and len(reach) > 2 else (),
            dead=int(dead.sum()),
            fewer_levels=fitted.limited.get(node.name, 0),
            joined=joins.get(node.name, ""),
            joined_ratio=(top - bottom) / own if node.name in joins and own > 0 else 1.0,
        )
    return found


def _ends(grid: Quantization) -> tuple[float, float]:
    """The smallest and the largest real value that rounds to an integer of `grid` without being clipped."""
    low, high = (end - int(grid.zero_point) for end in grid.limits)
    return (low - 0.5) * float(grid.scale), (high + 0.5) * float(grid.scale)
