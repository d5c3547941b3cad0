"""Calibrate: a graph and a calibration set to a quantization for every activation and weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.integer.graph import Quantization
from edgeq.quant.bits import weight_bits
from edgeq.quant.consumer_function import consumer_function
from edgeq.quant.fakequant import quantize_weight
from edgeq.quant.fit_kernels import fit_kernels
from edgeq.quant.layerwise import quantize_layerwise
from edgeq.quant.observe import OBSERVERS, Histogram, collect, keep_values, minmax, pick_range
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import FixedSpec, OwnSpec, SharedSpec, Spec, WidenedSpec, grid, specify, widen_grid

__all__ = ["Calibration", "calibrate"]


SMALLEST_RANGE = 1e-5
"""Range of a value that cannot be above 0 and was 0 on all images."""


@dataclass(frozen=True)
class Calibration:
    """Quantizations of activations and weights by name, and what to add to the bias of a layer, ``(C_out,)``.

    `constants` are weights of few bits that were already rounded to points of their grids. `coarsened` says how many
    times coarser a value's grid is than its observed range needs, because kernels would refuse the finer one.
    """

    activations: Mapping[str, Quantization]
    weights: Mapping[str, Quantization]
    bias_corrections: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    constants: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    coarsened: Mapping[str, float] = field(default_factory=dict)

    def rounded(self, graph: Graph) -> Graph:
        """Replace weights of `graph` by those in `constants`, whose nearest integers are the ones that were chosen."""
        return graph.replace(constants={**graph.constants, **self.constants}) if self.constants else graph


def calibrate(
    graph: Graph,
    calibration: CalibrationSet,
    input_range: tuple[float, float],
    *,
    scheme: Scheme,
    observer: str = "mse",
    correct_bias: bool = True,
    compensate: bool = True,
    specs: Mapping[str, Spec] | None = None,
) -> Calibration:
    """Choose a quantization for every activation and weight of an optimised `graph`.

    `input_range` is the real range of normalised pixels. It is the range of the network's input, which is not
    calibrated; images that leave it (some methods make such) are saturated as on the device. `compensate` rounds
    weights of few bits such that their errors cancel (`edgeq.quant.rounding`). `specs` is what `specify` returns for
    the same graph, range and scheme, where the caller has it already. Raises `ConfigError` for an unknown observer.
    """
    calibration = replace(calibration, inputs=np.clip(calibration.inputs, *input_range))
    rule = OBSERVERS.get(observer)
    specs = specify(graph, input_range, scheme) if specs is None else specs
    own = {name: spec for name, spec in specs.items() if isinstance(spec, OwnSpec)}
    values = keep_values(graph, calibration)
    groups = {name: spec.members for name, spec in own.items()}
    ranked = {name for name, spec in own.items() if spec.ranked}
    extremes = {name for name, spec in own.items() if (rule is minmax or spec.exact) and name not in ranked}
    histograms = collect(graph, groups, calibration, uncounted=extremes, values=values)
    activations: dict[str, Quantization] = {}
    for name, spec in own.items():
        consumer = consumer_function(graph, name) if len(spec.members) == 1 else None
        chosen = "minmax" if spec.exact else observer
        low, high = pick_range(chosen, histograms[name], 2**spec.bits, consumer)
        low = max(low, _lowest_score(histograms[name])) if spec.ranked else low
        activations[name] = grid(*_bound(histograms[name], low, high, spec.cap), spec.bits)
    nothing = {name for name in own if histograms[name].nothing}
    _refine(nothing, activations)
    activations |= {name: spec.quantization for name, spec in specs.items() if isinstance(spec, FixedSpec)}
    _follow(specs, activations)
    weights = {name: quantize_weight(graph.constants[name], bits) for name, bits in weight_bits(graph, scheme).items()}
    fitted = fit_kernels(graph, activations, weights)
    activations, weights = dict(fitted.activations), dict(fitted.weights)
    layerwise = quantize_layerwise(
        graph,
        activations,
        weights,
        calibration.inputs,
        round_weights=compensate,
        correct_bias=correct_bias,
        judged=scheme.fewest < 8,
        exact=values,
    )
    coarsened = {name: by for name, by in fitted.coarsened.items() if name in own and name not in nothing}
    return Calibration(activations, weights, layerwise.corrections, layerwise.constants, coarsened)


def _refine(nothing: Collection[str], activations: dict[str, Quantization]) -> None:
    """Give values that were 0 on all images the finest grid of all, so that values joined with them lose nothing."""
    finest = min((q.scale for name, q in activations.items() if name not in nothing), default=None)
    for name in nothing:
        if finest is not None and activations[name].scale > finest:
            activations[name] = replace(activations[name], scale=np.asarray(finest))


def _follow(specs: Mapping[str, Spec], activations: dict[str, Quantization]) -> None:
    """Add the grids that follow from other values' grids (`SharedSpec` and `WidenedSpec`)."""
    widen = {name: spec.source for name, spec in specs.items() if isinstance(spec, WidenedSpec)}
    shared = {name: spec.source for name, spec in specs.items() if isinstance(spec, SharedSpec)}
    for name, source in widen.items():
        activations[name] = widen_grid(activations[shared.get(source, source)])
    activations |= {name: activations[source] for name, source in shared.items()}


def _lowest_score(histogram: Histogram) -> float:
    """Where scores of classes may saturate: as far below their mean as the best score is above it.

    What is not the answer to any image needs no steps of its own, and a grid that ends higher has finer ones. It is the
    same for scores that are all shifted, as by a log-softmax.
    """
    mean = float(histogram.centres() @ histogram.counts / histogram.counts.sum())
    return 2 * mean - histogram.high


def _bound(histogram: Histogram, low: float, high: float, cap: float) -> tuple[float, float]:
    """Adjust a range to what is known of its value.

    A value that is never negative starts at exactly 0: the zero point is then the lowest integer, and saturation does
    the ReLU. A value behind a ReLU6 ends at 6 at most. A value that is never positive ends at 0 and starts below it.
    """
    if cap <= 0.0:
        return (-SMALLEST_RANGE if histogram.nothing else low), 0.0
    return (0.0 if histogram.low >= 0.0 else low), min(high, cap)
