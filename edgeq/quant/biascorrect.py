"""Empirical bias correction: what rounding the weights and activations shifts on average, added back to the biases.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with the
expectation taken over the calibration set. One pass, in execution order: a layer is measured with all corrections
before it already applied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Clamp, Conv2d, Linear
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import Quantization
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation

__all__ = ["correct_biases"]

JUDGES = 8


@torch.no_grad()
def correct_biases(
    graph: Graph,
    simulated: Graph,
    activations: Mapping[str, Quantization],
    calibration: CalibrationSet,
    *,
    judged: bool = False,
    most: int = 64,
) -> dict[str, npt.NDArray[np.float32]]:
    """What to add to the bias of each convolution and linear, ``(C_out,)`` by node name.

    `simulated` is the `simulation` of `graph` with its weights on their grids. Uses at most `most` images at once:
    every layer's mean must see the corrections before it, so the set is one batch.
    `judged` drops a channel's correction where it would raise the squared error behind the activation on the first
    `JUDGES` images. At 8 bits the means are close and matching them helps; below, a mean carried by values that a ReLU
    cuts off anyway can drag the rest along.
    """
    float_graph = simulation(graph, {})
    inputs = torch.from_numpy(calibration.inputs[:most]).to(memory_format=torch.channels_last)
    linear: dict[str, str] = {}
    clamps: dict[str, Clamp] = {}
    for node in graph.of_kind(Conv2d, Linear):
        clamp = node.op.activation  # type: ignore[attr-defined]
        before = node.name + LINEAR if clamp else node.name
        linear[before] = node.name
        if clamp:
            clamps[before] = clamp
    wanted: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}

    def remember(name: str, value: Tensor) -> None:
        if name in linear:
            wanted[name] = _channel_mean(value)
            if judged:
                seen[name] = value[:JUDGES].clone()

    GraphModule(float_graph).run(inputs, visit=remember)
    corrections: dict[str, npt.NDArray[np.float32]] = {}

    def correct(name: str, value: Tensor) -> Tensor | None:
        if name in linear:
            shift = wanted[name] - _channel_mean(value)
            if judged:
                shift = shift * _helps(seen.pop(name), value[:JUDGES], shift, clamps.get(name))
            corrections[linear[name]] = shift.numpy().astype(np.float32)
            value = value + shift.view(1, -1, *([1] * (value.dim() - 2)))
        return fake_quantize(value, activations[name]) if name in activations else value

    GraphModule(simulated).run(inputs, visit=correct)
    return corrections


def _helps(want: Tensor, have: Tensor, shift: Tensor, clamp: Clamp | None) -> Tensor:
    """1 for channels whose squared error behind the activation `shift` lowers, 0 for the others, ``(C,)``."""
    shape = (1, -1, *([1] * (have.dim() - 2)))
    low, high = (clamp.minimum, clamp.maximum) if clamp else (-math.inf, math.inf)
    want = want.clamp(low, high)
    before, after = (_channel_mean((v.clamp(low, high) - want).square()) for v in (have, have + shift.view(shape)))
    return (after < before).to(shift.dtype)


def _channel_mean(value: Tensor) -> Tensor:
    return value.double().mean([0, *range(2, value.dim())]).float()
