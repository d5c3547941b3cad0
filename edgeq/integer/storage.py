"""Activations of fewer than eight bits: no runtime saturates there; a file stores what it can, the rest is simulated.

The file's values have all eight bits of their storage; the exact reference computes what was asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run as run_reference

__all__ = ["reference_run", "storable"]


def storable(integer: IntegerGraph) -> IntegerGraph:
    """The same integers, scales and zero points with activations that saturate at their storage's end: what a file can
    say. `integer` itself where nothing is narrower than that."""
    narrow = set(integer.narrow())
    if not narrow:
        return integer
    wide = {
        name: dataclasses.replace(grid, bits=None) if name in narrow else grid
        for name, grid in integer.quantizations.items()
    }
    return dataclasses.replace(integer, quantizations=wide)


def reference_run(integer: IntegerGraph) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The exact reference as something `evaluate` can call: normalised images to the first output's real values."""
    (entry,), (end, *_) = integer.inputs, integer.outputs
    grids = integer.quantizations

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return grids[end].dequantize(run_reference(integer, grids[entry].quantize(inputs))[end])

    return run
