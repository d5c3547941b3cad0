"""Activation ranges: histograms collected on the calibration set, and the rules that turn one into a range.

Two passes over the set: the first finds each value's extremes, the second counts `BINS` equal bins between them. Where
the set is one batch and memory holds its values (`keep_values`), the network runs once, and bias correction reads the
same values again. The rules (`OBSERVERS`) only see the histogram, so a new rule is one function.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq import registry
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import PluginError, UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.graph.run.memory import channels_last
from edgeq.quant.fakequant import simulation
from edgeq.registry import Registry

__all__ = [
    "BATCH",
    "BINS",
    "KEPT",
    "OBSERVERS",
    "Histogram",
    "Observer",
    "collect",
    "keep_values",
    "not_finite_error",
    "pick_range",
]

BINS = 2048
BATCH = 16
"""How many images run at once."""
AT_ONCE = 2**16
"""How many values are counted at a time."""
KEPT = 2**27
"""The most values that `keep_values` holds: half a gigabyte."""
NOTHING = 1e-6
"""Half the range of a value that was 0 on all images."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histogram:
    """`counts` ``(BINS,)`` of values between `low` and `high`."""

    low: float
    high: float
    counts: Array

    @property
    def nothing(self) -> bool:
        """Whether all values were 0."""
        return (self.low, self.high) == (-NOTHING, NOTHING)

    def centres(self) -> Array:
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts)) + 0.5)


ConsumerFunction = Callable[[Array], Array]
Observer = Callable[[Histogram, int, ConsumerFunction | None], tuple[float, float]]
"""A rule: (histogram, number of integer levels, consumer function or None) -> (low, high) of the range."""

OBSERVERS: Registry[Observer] = registry.OBSERVERS


@torch.no_grad()
def keep_values(graph: Graph, calibration: CalibrationSet) -> dict[str, Tensor] | None:
    """Run the float network on the whole set and keep every value, also those before fused activations (`simulation`).

    Returns None where the set is more than one batch or the values more than `KEPT`.
    """
    plain = simulation(graph, {})
    values = sum(math.prod(plain.shapes[name]) for name in (*plain.inputs, *(node.name for node in plain.nodes)))
    if len(calibration) > BATCH or values * len(calibration) > KEPT:
        return None
    kept: dict[str, Tensor] = {}
    _run_batches(GraphModule(plain).eval(), calibration, BATCH, kept.__setitem__)
    return kept


def not_finite_error(name: str) -> UnsupportedError:
    """The error to raise where value `name` is not finite."""
    hint = "look at its weights, and at mean and std of its input"
    return UnsupportedError("the network computes values that are not finite", where=name, hint=hint)


@torch.no_grad()
def collect(
    graph: Graph,
    groups: Mapping[str, Sequence[str]],
    calibration: CalibrationSet,
    batch: int = BATCH,
    *,
    uncounted: Collection[str] = (),
    values: Mapping[str, Tensor] | None = None,
) -> dict[str, Histogram]:
    """Collect one histogram per group of values; `groups` maps a name to the values that are counted together.

    Groups in `uncounted` get their extremes only, with counts of 0. `values` is what `keep_values` returned, where it
    was called. Raises `UnsupportedError` for values that are not finite.
    """
    owner = {value: name for name, members in groups.items() for value in members}
    module = GraphModule(graph).eval() if values is None else None

    def every(visit: Callable[[str, Tensor], None]) -> None:
        if module is not None:
            return _run_batches(module, calibration, batch, visit)
        for name in owner:
            visit(name, values[name])  # type: ignore[index]
        return None

    extremes: dict[str, tuple[float, float]] = {}

    def widen(name: str, value: Tensor) -> None:
        if name in owner:
            low, high = (float(v) for v in torch.aminmax(_flat(value)))
            if not math.isfinite(high - low):
                raise not_finite_error(name)
            before = extremes.get(owner[name], (low, high))
            extremes[owner[name]] = (min(low, before[0]), max(high, before[1]))

    every(widen)
    counts = {name: np.zeros(BINS) for name in groups}

    def count(name: str, value: Tensor) -> None:
        if name in owner and owner[name] not in uncounted:
            low, high = _span(extremes[owner[name]])
            counts[owner[name]] += _count(_flat(value).numpy(), low, high)

    every(count)
    return {name: Histogram(*_span(extremes[name]), counts[name]) for name in groups}


def _flat(value: Tensor) -> Tensor:
    """Flatten `value` in the order of its memory, without a copy where it is contiguous."""
    if value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last):
        value = value.permute(0, 2, 3, 1)
    return value.reshape(-1)


def _count(values: npt.NDArray[np.float32], low: float, high: float) -> Array:
    """Count as ``torch.histc`` does from `low` to `high`, in a third of its time: by blocks that stay in the cache."""
    start, width = np.float32(low), np.float32(high) - np.float32(low)
    if not 0 < width < np.inf:
        return np.asarray(torch.histc(torch.from_numpy(values), BINS, low, high).double().numpy())
    counts = np.zeros(BINS + 1, np.int64)
    room, bins = np.empty(AT_ONCE, np.float32), np.empty(AT_ONCE, np.intp)
    for first in range(0, len(values), AT_ONCE):
        block = values[first : first + AT_ONCE]
        places, numbers = room[: len(block)], bins[: len(block)]
        np.subtract(block, start, out=places)
        places *= np.float32(BINS)
        places /= width
        numbers[:] = places
        counts += np.bincount(numbers, minlength=BINS + 1)
    counts[BINS - 1] += counts[BINS]  # the highest value itself
    return counts[:BINS].astype(np.float64)


def _span(extremes: tuple[float, float]) -> tuple[float, float]:
    """Widen the range of a constant value, so that bins have a width that float32 can represent."""
    low, high = extremes
    width = abs(low) * 1e-6 or NOTHING
    return (low, high) if high > low else (low - width, high + width)


def _run_batches(
    module: GraphModule, calibration: CalibrationSet, batch: int, visit: Callable[[str, Tensor], None]
) -> None:
    for start in range(0, len(calibration), batch):
        inputs = torch.from_numpy(calibration.inputs[start : start + batch])
        module.run(channels_last(inputs), visit=visit)


def pick_range(
    observer: str, histogram: Histogram, levels: int, consumer: ConsumerFunction | None
) -> tuple[float, float]:
    """The range that the rule called `observer` picks. Raises `ConfigError` where another package's rule fails, or
    returns no two finite numbers, the lower one first."""
    with OBSERVERS.blame(observer):
        low, high = (float(end) for end in OBSERVERS.get(observer)(histogram, levels, consumer))
    if not -math.inf < low <= high < math.inf:
        raise PluginError(
            f"the observer {observer!r} returned the range {low:g} to {high:g}",
            why="must be two finite numbers, the lower one first",
        )
    return low, high


@OBSERVERS.register("minmax")
def minmax(histogram: Histogram, levels: int, consumer: ConsumerFunction | None) -> tuple[float, float]:
    """The whole observed range."""
    return histogram.low, histogram.high


@OBSERVERS.register("percentile")
def percentile(histogram: Histogram, levels: int, consumer: ConsumerFunction | None) -> tuple[float, float]:
    """The range without one in 10,000 values at each end."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    first, last = int(np.searchsorted(share, 1e-4)), int(np.searchsorted(share, 1 - 1e-4))
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    return float(edges[first]), float(edges[min(last + 1, len(histogram.counts))])


@OBSERVERS.register("mse")
def mse(histogram: Histogram, levels: int, consumer: ConsumerFunction | None) -> tuple[float, float]:
    """The range with the least mean squared error between values and quantized values.

    It is searched one end at a time, in three rounds. With `consumer` (a LeakyReLU that is the value's only reader,
    say) the error is measured after that function.
    """
    x, weight = histogram.centres(), histogram.counts / histogram.counts.sum()
    lowest, highest = min(histogram.low, 0.0), max(histogram.high, 0.0)
    fractions = np.linspace(0.01, 1.0, 100)
    target = x if consumer is None else consumer(x)

    @functools.cache
    def best_high(low: float) -> float:
        highs = fractions * highest
        return float(highs[_best(np.full(100, low), highs, x, target, weight, levels, consumer)])

    @functools.cache
    def best_low(high: float) -> float:
        lows = fractions * lowest
        return float(lows[_best(lows, np.full(100, high), x, target, weight, levels, consumer)])

    low, high = lowest, highest
    for _ in range(3):
        high = best_high(low)
        if lowest == 0.0:
            return 0.0, high
        low = best_low(high)
    return low, high


def _best(
    low: Array, high: Array, x: Array, target: Array, weight: Array, levels: int, consumer: ConsumerFunction | None
) -> int:
    """Which candidate range loses least on the evenly spaced values `x`, of which the network reads `target`.

    Values that become one level are neighbours. So with t what the network reads of a level, the error over its values
    is t² Σ weight - 2 t Σ weight target, both from running sums, and a remainder that all candidates share.
    """
    scale = np.maximum((high - low) / (levels - 1), np.finfo(np.float64).tiny)[:, None]
    steps = np.arange(levels) - np.round(-low[:, None] / scale)
    first = ((steps[:, 1:] - 0.5) * scale - x[0]) / (x[1] - x[0])  # where values round to the next level
    edges = np.zeros((len(low), levels + 1), np.intp)
    edges[:, 1:-1] = np.clip(np.ceil(first), 0, len(x))
    edges[:, -1] = len(x)
    counted, read = (np.concatenate([[0.0], np.cumsum(part)]) for part in (weight, weight * target))
    outputs = steps * scale if consumer is None else consumer(steps * scale)
    errors = outputs * (outputs * np.diff(counted[edges]) - 2.0 * np.diff(read[edges]))
    return int(np.argmin(errors.sum(1)))
