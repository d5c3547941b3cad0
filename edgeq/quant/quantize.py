"""Quantize: an optimised float graph and calibration images to integers, in the one order that everybody uses.

    specify -> equalize -> calibrate (with layerwise rounding and bias correction) -> freeze

The pipeline, fine-tuning, the Python API, tests and benchmarks all call the functions below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.equalize import equalize
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import Spec, specify

__all__ = ["Decided", "decide", "quantize"]


@dataclass(frozen=True)
class Decided:
    """What quantization decides before any integer exists: the equalized float `graph`, and the `calibration` of its
    values. `freeze(decided.graph, decided.calibration)` makes integers of them; fine-tuning trains them first."""

    graph: Graph
    calibration: Calibration


def decide(
    graph: Graph,
    images: CalibrationSet,
    input_range: tuple[float, float],
    scheme: Scheme,
    *,
    observer: str = "mse",
    specs: Mapping[str, Spec] | None = None,
) -> Decided:
    """Equalize and calibrate an optimised `graph` on normalised `images`, whose values lie in `input_range`.

    `observer` picks ranges: ``minmax``, ``percentile`` or ``mse``. `specs` is what `specify` returns for the same
    graph, range and scheme, where the caller has it already. Raises `UnsupportedError` for a graph that cannot be
    quantized so, `ConfigError` for an unknown observer.
    """
    specs = specify(graph, input_range, scheme) if specs is None else specs
    equalized = equalize(graph, images, input_range, scheme, specs=specs)
    calibration = calibrate(equalized, images, input_range, scheme=scheme, observer=observer, specs=specs)
    return Decided(equalized, calibration)


def quantize(
    graph: Graph,
    images: CalibrationSet,
    input_range: tuple[float, float],
    scheme: Scheme,
    *,
    observer: str = "mse",
    specs: Mapping[str, Spec] | None = None,
) -> IntegerGraph:
    """Integers of an optimised `graph`, with ranges from `images`. Arguments and errors are those of `decide`."""
    decided = decide(graph, images, input_range, scheme, observer=observer, specs=specs)
    return freeze(decided.graph, decided.calibration).graph
