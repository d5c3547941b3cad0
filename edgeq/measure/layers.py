"""Quantization error per layer: the float network compared with the integers, value by value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.graph.ir import Graph
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference.layers import run

__all__ = ["LayerError", "layer_errors"]


@dataclass(frozen=True)
class LayerError:
    """Error of one node's output.

    `sqnr_db` is its signal-to-quantization-noise ratio in dB, with quantized inputs. `saturated` is the share of values
    at the ends of the integer range, except the zero end of a ReLU. `reads` are the names of its input nodes. `low` and
    `high` are the smallest and largest float value."""

    name: str
    op: str
    sqnr_db: float
    saturated: float
    reads: tuple[str, ...]
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"reads": list(self.reads)}


@torch.no_grad()
def layer_errors(graph: Graph, integer: IntegerGraph, inputs: npt.NDArray[np.float32]) -> list[LayerError]:
    """One row per node, in execution order, over float32 `inputs` ``(N, C, H, W)``."""
    whole = run(integer, integer.quantizations[integer.inputs[0]].quantize(inputs))
    rows: list[LayerError] = []
    kinds = {node.name: type(node.op).__name__ for node in graph.nodes}
    reads = {node.name: tuple(name for name in node.inputs if name in kinds) for node in graph.nodes}

    def compare(name: str, value: torch.Tensor) -> None:
        if name not in kinds or name not in whole:
            return
        quantization = integer.quantizations[name]
        real = value.numpy().astype(np.float64)
        noise = float(np.square(quantization.dequantize(whole[name]) - real).sum())
        signal = float(np.square(real).sum())
        ratio = (
            10 * np.log10(signal / noise) if noise > 0 and signal > 0 else (120.0 if signal > 0 or noise == 0 else 0.0)
        )
        low, high = quantization.limits
        ends = np.mean(whole[name] == high) + (
            np.mean(whole[name] == low) if int(quantization.zero_point) > low else 0.0
        )
        error, reached = float(min(ratio, 120.0)), (float(real.min()), float(real.max()))
        rows.append(LayerError(name, kinds[name], error, float(ends), reads[name], *reached))

    GraphModule(graph).run(torch.from_numpy(inputs), visit=compare)
    return rows
