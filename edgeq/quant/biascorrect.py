"""Empirical bias correction: what rounding the weights and activations shifts on average, added back to the biases.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.2, with the
expectation taken over the calibration set. One pass, in execution order: a layer is measured with all corrections
before it already applied.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Conv2d, Linear
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import Quantization
from edgeq.quant.fakequant import LINEAR, fake_quantize, simulation

__all__ = ["correct_biases"]


@torch.no_grad()
def correct_biases(
    graph: Graph,
    activations: Mapping[str, Quantization],
    weights: Mapping[str, Quantization],
    calibration: CalibrationSet,
    most: int = 64,
) -> dict[str, npt.NDArray[np.float32]]:
    """What to add to the bias of each convolution and linear, ``(C_out,)`` by node name.

    Uses at most `most` images at once: every layer's mean must see the corrections before it, so the set is one batch.
    """
    float_graph = simulation(graph, {})
    inputs = torch.from_numpy(calibration.inputs[:most]).to(memory_format=torch.channels_last)
    linear = {
        (n.name + LINEAR if n.op.activation else n.name): n.name  # type: ignore[attr-defined]
        for n in graph.of_kind(Conv2d, Linear)
    }
    wanted: dict[str, Tensor] = {}

    def remember(name: str, value: Tensor) -> None:
        if name in linear:
            wanted[name] = _channel_mean(value)

    GraphModule(float_graph).run(inputs, visit=remember)
    corrections: dict[str, npt.NDArray[np.float32]] = {}

    def correct(name: str, value: Tensor) -> Tensor | None:
        if name in linear:
            shift = wanted[name] - _channel_mean(value)
            corrections[linear[name]] = shift.numpy().astype(np.float32)
            value = value + shift.view(1, -1, *([1] * (value.dim() - 2)))
        return fake_quantize(value, activations[name]) if name in activations else value

    GraphModule(simulation(graph, weights)).run(inputs, visit=correct)
    return corrections


def _channel_mean(value: Tensor) -> Tensor:
    return value.double().mean([0, *range(2, value.dim())]).float()
