"""Activations of fewer than eight bits: what a file can hold of them, and the exact reference of what was requested.

No runtime saturates below eight bits. A file's activations therefore have all eight bits of their storage, and the
integers it was written from (`integer.safetensors` in the folder of a build) are the same with those bits dropped. What
was requested is simulated by the exact reference, and kept beside it as `simulated.safetensors`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run as run_reference

__all__ = ["drop_unstorable_bits", "load_written", "reference_run"]


def drop_unstorable_bits(integer: IntegerGraph) -> IntegerGraph:
    """Return the same integers, scales and zero points, with activations that saturate where their storage ends.

    That is what a file can hold. Returns `integer` itself where no activation has fewer bits than its storage.
    """
    narrow = set(integer.narrow())
    if not narrow:
        return integer
    wide = {
        name: dataclasses.replace(grid, bits=None) if name in narrow else grid
        for name, grid in integer.quantizations.items()
    }
    return dataclasses.replace(integer, quantizations=wide)


def load_written(path: Path) -> IntegerGraph:
    """Read the integers that the file of a build was written from. Raises `ArtifactError`.

    Builds of edgeq 0.1.0 kept the requested bits in the same file; these are dropped.
    """
    return drop_unstorable_bits(IntegerGraph.load(path))


def reference_run(integer: IntegerGraph) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The exact reference as something `evaluate` can call: normalised images to the first output's real values."""
    (entry,), (end, *_) = integer.inputs, integer.outputs
    grids = integer.quantizations

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return grids[end].dequantize(run_reference(integer, grids[entry].quantize(inputs))[end])

    return run
