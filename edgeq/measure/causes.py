"""From effects and symptoms to causes: why a layer loses most of what a network loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeq.graph.ir import Graph
from edgeq.measure.effects import LayerEffect
from edgeq.measure.symptoms import OUTLIER, Symptoms
from edgeq.quant.calibrate import Calibration

__all__ = ["Cause", "Kind", "find_causes"]

Kind = Literal[
    "few weight bits",
    "bias overflow",
    "outlier channels in its input",
    "weight rounding",
    "few activation bits",
    "concat of unlike ranges",
    "clipping",
    "outlier channels",
    "activation rounding",
]

LARGE = 0.1
"""Share of the noise of all layers from which a layer counts as a cause."""

NAMED = 3
"""The most layers that are named as causes."""

CLIPPED = 0.001
"""Share of values beyond a grid above which clipping explains a layer's noise."""


@dataclass(frozen=True)
class Cause:
    """Why the node `where` loses: `kind`, the same in a sentence (`text`), and its `share` of the noise that all nodes
    make when each is rounded alone. `in_weights`: rounding its weights does it, and not rounding its output."""

    where: str
    kind: Kind
    text: str
    share: float
    in_weights: bool


def find_causes(
    graph: Graph, calibration: Calibration, effects: Mapping[str, LayerEffect], symptoms: Mapping[str, Symptoms]
) -> list[Cause]:
    """The worst nodes of an equalized `graph`, the worst first: those with a share of `LARGE` of the noise, or the
    worst one where none has."""
    total = sum(effect.alone for effect in effects.values())
    if total <= 0:
        return []
    ranked = sorted(effects, key=lambda name: -effects[name].alone)[:NAMED]
    large = [name for name in ranked if effects[name].alone >= LARGE * total] or ranked[:1]
    causes = []
    for name in large:
        effect = effects[name]
        in_weights = effect.weights > effect.activation
        explain = _weights if in_weights else _activation
        kind, text = explain(graph, calibration, name, symptoms)
        causes.append(Cause(name, kind, text, effect.alone / total, in_weights))
    return causes


def _weights(graph: Graph, calibration: Calibration, name: str, symptoms: Mapping[str, Symptoms]) -> tuple[Kind, str]:
    (node,) = (node for node in graph.layers() if node.name == name)
    bits, read = calibration.weights[node.inputs[1]].bits or 8, symptoms.get(node.inputs[0])
    if fewer := symptoms[name].fewer_levels:
        return "bias overflow", f"its sums would leave 32 bits, so {fewer} channels have coarser weights"
    if bits < 8:
        return "few weight bits", f"{bits} bits are too few for its weights"
    if read is not None and read.outliers:
        return "outlier channels in its input", f"{_outliers(read)}, and so does what rounding its weights for it does"
    return "weight rounding", "its answers depend on more digits of the weights than 8 bits hold"


def _activation(
    graph: Graph, calibration: Calibration, name: str, symptoms: Mapping[str, Symptoms]
) -> tuple[Kind, str]:
    seen, bits = symptoms[name], calibration.activations[name].bits
    if seen.joined_ratio > OUTLIER:
        return "concat of unlike ranges", (
            f"{seen.joined} gives it a grid {seen.joined_ratio:.0f} times as wide as its own range"
        )
    if bits is not None and bits < 8:
        return "few activation bits", f"{bits} bits are too few for its output"
    if seen.outliers:
        return "outlier channels", f"{_outliers(seen)}, and one grid serves all"
    if seen.clipped > CLIPPED:
        return "clipping", f"{seen.clipped:.2%} of its values lie beyond what the calibration images showed"
    return "activation rounding", "its answers depend on more digits of the output than 8 bits hold"


def _outliers(seen: Symptoms) -> str:
    several = len(seen.outliers) > 1
    numbers = ", ".join(map(str, seen.outliers[:3])) + " ..." * (len(seen.outliers) > 3)
    who = f"channels {numbers} reach" if several else f"channel {numbers} reaches"
    return f"{who} up to {seen.channel_ratio:.0f} times as far as the median channel"
