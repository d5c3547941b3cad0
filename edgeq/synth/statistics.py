"""How well a calibration set replaces the training data: moments per layer, and labels that the network confirms.

The reference of a layer is the statistics of its batch norm. In a network without batch norm, it is the moments that
the weights imply (`edgeq.synth.weightstats.estimate_moments`). Gaps are in units of the reference's standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.ops import BatchNorm, Softmax
from edgeq.graph.run import GraphModule
from edgeq.graph.run.memory import channels_last
from edgeq.synth.weightstats import estimate_moments

__all__ = ["Assignment", "LayerGap", "Reference", "assignment", "layer_gaps", "observe_moments", "references"]

Array = npt.NDArray[np.float64]

BATCH = 16
"""Images per forward pass; results do not depend on it beyond rounding."""

SILENT = 1e-3
"""A channel whose remembered standard deviation is below this share of its layer's (root mean square) has no unit to
measure a gap in: it is counted, and left out of the averages."""


@dataclass(frozen=True)
class Reference:
    """Reference statistics of `layer`: `value` is the name of its input, `mean` and `std` are per channel ``(C,)``."""

    layer: str
    value: str
    mean: Array
    std: Array


@dataclass(frozen=True)
class LayerGap:
    """One layer. Gaps are averages over its channels, in remembered standard deviations: 0 is a perfect match.

    `mean_gap` is |m̂ − m| / s, `std_gap` is |ŝ − s| / s; `worst_mean_gap` and `worst_std_gap` belong to the worst
    channel. `silent` of `channels` remember (almost) no variance and are left out.
    """

    layer: str
    channels: int
    silent: int
    mean_gap: float
    std_gap: float
    worst_mean_gap: float
    worst_std_gap: float


@dataclass(frozen=True)
class Assignment:
    """What the network makes of the images. `kept` of `labelled` images get the label they were made for;
    `classes` is the number of different classes among all answers."""

    labelled: int
    kept: int
    classes: int


def references(graph: Graph) -> tuple[list[Reference], str]:
    """Reference statistics of the layers of `graph`, and their origin: ``batch norm`` or ``weights``.

    Raises `UnsupportedError` where there is no batch norm and statistics cannot be carried through an op.
    """
    layers = []
    for node in graph.of_kind(BatchNorm):
        value, _, _, mean, var = node.inputs
        stored = (graph.constants[name].astype(np.float64) for name in (mean, var))
        layers.append(Reference(node.name, value, next(stored), np.sqrt(next(stored).clip(0))))
    if layers:
        return layers, "batch norm"
    estimated = estimate_moments(_without_softmax(graph))
    return [Reference(name, name, s.mean, s.std) for name, s in estimated.items()], "weights"


def _without_softmax(graph: Graph) -> Graph:
    """The graph without a final softmax: no layer reads the probabilities, so they need no statistics."""
    ends = {node.name: node.inputs[0] for node in graph.of_kind(Softmax) if not graph.consumers()[node.name]}
    if not ends:
        return graph
    outputs = tuple(ends.get(name, name) for name in graph.outputs)
    return graph.replace(outputs=outputs, nodes=tuple(node for node in graph.nodes if node.name not in ends))


@torch.no_grad()
def observe_moments(
    graph: Graph, inputs: npt.NDArray[np.float32], values: Sequence[str]
) -> tuple[dict[str, tuple[Array, Array]], npt.NDArray[np.float32]]:
    """Mean and standard deviation per channel of the named values over all of `inputs` ``(N, C, H, W)``, and the
    network's first output ``(N, ...)``. The whole set counts as one batch, however it is split here."""
    network, names = GraphModule(graph).eval(), frozenset(values)
    sums: dict[str, tuple[float, Array, Array]] = {}
    outputs = []

    def tap(name: str, value: torch.Tensor) -> None:
        if name not in names:
            return
        flat = value.transpose(0, 1).flatten(1)
        var, mean = (t.double().numpy() for t in torch.var_mean(flat, 1, correction=0))
        count = float(flat.shape[1])
        sums[name] = _merge(sums[name], (count, mean, var * count)) if name in sums else (count, mean, var * count)

    for start in range(0, len(inputs), BATCH):
        batch = channels_last(torch.from_numpy(inputs[start : start + BATCH]))
        outputs.append(network.run(batch, visit=tap)[graph.outputs[0]].numpy())
    moments = {name: (mean, np.sqrt(squares / count)) for name, (count, mean, squares) in sums.items()}
    return moments, np.concatenate(outputs)


def _merge(one: tuple[float, Array, Array], other: tuple[float, Array, Array]) -> tuple[float, Array, Array]:
    """Count, mean and sum of squared deviations of two groups together (Chan, Golub, LeVeque 1979): no cancellation."""
    count = one[0] + other[0]
    apart = other[1] - one[1]
    mean = one[1] + apart * (other[0] / count)
    return count, mean, one[2] + other[2] + apart**2 * (one[0] * other[0] / count)


def layer_gaps(stored: Sequence[Reference], seen: Mapping[str, tuple[Array, Array]]) -> list[LayerGap]:
    """One row per reference, in order."""
    rows = []
    for want in stored:
        mean, std = seen[want.value]
        unit = want.std > SILENT * np.sqrt(np.mean(want.std**2))
        rows.append(_row(want, (np.abs(mean - want.mean), np.abs(std - want.std)), unit))
    return rows


def _row(want: Reference, apart: tuple[Array, Array], unit: npt.NDArray[np.bool_]) -> LayerGap:
    mean, std = (gap[unit] / want.std[unit] if unit.any() else np.zeros(1) for gap in apart)
    return LayerGap(
        want.layer,
        channels=len(unit),
        silent=int((~unit).sum()),
        mean_gap=float(mean.mean()),
        std_gap=float(std.mean()),
        worst_mean_gap=float(mean.max()),
        worst_std_gap=float(std.max()),
    )


def assignment(calibration: CalibrationSet, outputs: npt.NDArray[np.float32]) -> Assignment:
    """Compare the network's answers with the labels; images labelled -1 have none."""
    answers = outputs.reshape(len(outputs), -1).argmax(1)
    known = calibration.labels >= 0
    kept = int((answers[known] == calibration.labels[known]).sum())
    return Assignment(int(known.sum()), kept, len(np.unique(answers)))
