"""Activation ranges: histograms collected on the calibration set, and the rules that turn one into a range.

Two passes over the set: the first finds each value's extremes, the second counts `BINS` equal bins between them. The
rules (`OBSERVERS`) only see the histogram, so a new rule is one function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.registry import Registry

__all__ = ["BINS", "OBSERVERS", "Histogram", "Observer", "collect"]

BINS = 2048
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """`counts` ``(BINS,)`` of values between `low` and `high`."""

    low: float
    high: float
    counts: Array

    def centres(self) -> Array:
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts)) + 0.5)


Transfer = Callable[[Array], Array]
Observer = Callable[[Histogram, int, Transfer | None], tuple[float, float]]
"""(histogram, number of integer levels, what the next op makes of the value or None) -> (low, high)."""

OBSERVERS: Registry[Observer] = Registry("observer")


@torch.no_grad()
def collect(
    graph: Graph, groups: Mapping[str, Sequence[str]], calibration: CalibrationSet, batch: int = 16
) -> dict[str, Histogram]:
    """One histogram per group of values (a name to the values counted together)."""
    module = GraphModule(graph).eval()
    owner = {value: name for name, values in groups.items() for value in values}
    extremes: dict[str, tuple[float, float]] = {}

    def widen(name: str, value: Tensor) -> None:
        if name in owner:
            low, high = (float(v) for v in torch.aminmax(value))
            before = extremes.get(owner[name], (low, high))
            extremes[owner[name]] = (min(low, before[0]), max(high, before[1]))

    _passes(module, calibration, batch, widen)
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in groups}

    def count(name: str, value: Tensor) -> None:
        if name in owner:
            low, high = _span(extremes[owner[name]])
            counts[owner[name]] += torch.histc(value, BINS, low, high).double()

    _passes(module, calibration, batch, count)
    return {name: Histogram(*_span(extremes[name]), counts[name].numpy()) for name in groups}


def _span(extremes: tuple[float, float]) -> tuple[float, float]:
    """A constant value still needs a bin with some width."""
    low, high = extremes
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)


def _passes(module: GraphModule, calibration: CalibrationSet, batch: int, visit: Callable[[str, Tensor], None]) -> None:
    for start in range(0, len(calibration), batch):
        inputs = torch.from_numpy(calibration.inputs[start : start + batch])
        module.run(inputs.to(memory_format=torch.channels_last), visit=visit)


@OBSERVERS.register("minmax")
def minmax(histogram: Histogram, levels: int, transfer: Transfer | None) -> tuple[float, float]:
    """Everything that was seen."""
    return histogram.low, histogram.high


@OBSERVERS.register("percentile")
def percentile(histogram: Histogram, levels: int, transfer: Transfer | None) -> tuple[float, float]:
    """All but one in 10,000 values at each end."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    first, last = int(np.searchsorted(share, 1e-4)), int(np.searchsorted(share, 1 - 1e-4))
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    return float(edges[first]), float(edges[min(last + 1, len(histogram.counts))])


@OBSERVERS.register("mse")
def mse(histogram: Histogram, levels: int, transfer: Transfer | None) -> tuple[float, float]:
    """The range of least mean squared error between values and their quantized selves.

    Searched one end at a time, three rounds. With `transfer` (a LeakyReLU that is the value's only reader, say) the
    error is that of the transferred values, which is what the network goes on with.
    """
    x, weight = histogram.centres(), histogram.counts / histogram.counts.sum()
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    fractions = np.linspace(0.01, 1.0, 100)
    for _ in range(3):
        high = _best(
            [(low, high_try) for high_try in fractions * max(histogram.high, 0.0)], x, weight, levels, transfer
        )[1]
        low = _best([(low_try, high) for low_try in fractions * min(histogram.low, 0.0)], x, weight, levels, transfer)[
            0
        ]
        if low == 0.0:
            break
    return low, high


def _best(
    ranges: Iterable[tuple[float, float]], x: Array, weight: Array, levels: int, transfer: Transfer | None
) -> tuple[float, float]:
    candidates: Array = np.array(list(ranges), np.float64)
    low, high = candidates[:, :1], candidates[:, 1:]
    scale = np.maximum((high - low) / (levels - 1), 1e-12)
    zero = np.round(-low / scale)
    held = (np.clip(np.round(x / scale) + zero, 0, levels - 1) - zero) * scale
    gap = held - x if transfer is None else transfer(held) - transfer(x)
    low_best, high_best = candidates[np.argmin((gap**2) @ weight)]
    return float(low_best), float(high_best)
