"""Contents of a model file, whichever format it has: the facts `edgeq inspect` prints.

Shapes are those the file states, batch 1 where it leaves the batch open; layouts are the file's own (NHWC in TFLite,
NCHW in ONNX).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.formats.census import Census

__all__ = ["Contents", "Entry", "Op", "Tensor", "check_shape", "peak_memory"]

BITS = {
    "int4": 4,
    "uint4": 4,
    "float16": 16,
    "bfloat16": 16,
    "int16": 16,
    "uint16": 16,
    "float32": 32,
    "int32": 32,
    "uint32": 32,
    "float64": 64,
    "int64": 64,
    "uint64": 64,
}
"""Bits of an element by type; every other type has 8."""


MOST_DIMENSIONS = 32
"""Most dimensions that a tensor may have; no runtime takes more, and products over them would be too large."""


def check_shape(dims: Iterable[int]) -> tuple[int, ...]:
    """A shape as a file states it, with 1 for what it leaves open (-1). Raises `ArtifactError` for one that is none."""
    shape = tuple(1 if size < 0 else int(size) for size in dims)
    if len(shape) > MOST_DIMENSIONS:
        raise ArtifactError("the model is damaged", why=f"a tensor has {len(shape)} dimensions")
    return shape


@dataclass(frozen=True)
class Tensor:
    """`scales` of a quantized tensor, one or one per channel; `constant`: its content is in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    scales: tuple[float, ...] = ()
    zero_point: int | None = None
    constant: bool = False

    @property
    def bytes(self) -> int:
        return -(-math.prod(self.shape) * BITS.get(self.type, 8) // 8)

    def to_json(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": self.name, "type": self.type, "shape": list(self.shape), "bytes": self.bytes}
        if self.scales:
            facts |= {"scale": [min(self.scales), max(self.scales)], "scales": len(self.scales)}
            facts |= {"zero_point": self.zero_point}
        return facts


@dataclass(frozen=True)
class Op:
    """One op in execution order. `inputs` and `outputs` are activations, `constants` what comes from the file."""

    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    macs: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.kind,
            "inputs": [t.to_json() for t in self.inputs],
            "constants": [t.to_json() for t in self.constants],
            "outputs": [t.to_json() for t in self.outputs],
            "macs": self.macs,
        }


@dataclass(frozen=True)
class Contents:
    """A file as a whole. `runtime_census`: what the runtime made of it when it loaded it, None where nobody asked."""

    format: str
    bytes: int
    description: str
    metadata: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    census: Census
    runtime_census: Census | None = None

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def constant_bytes(self) -> int:
        """Weights, biases and other constants, each counted once."""
        return sum({t.name: t.bytes for op in self.ops for t in op.constants}.values())

    def to_json(self) -> dict[str, Any]:
        censuses = {"file": self.census, "runtime": self.runtime_census}
        return {
            "format": self.format,
            "bytes": self.bytes,
            "constant_bytes": self.constant_bytes,
            "macs": self.macs,
            "peak_activation_bytes": peak_memory(self.ops, self.inputs, self.outputs),
            "description": self.description,
            "metadata": list(self.metadata),
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
            "ops": [op.to_json() for op in self.ops],
            "census": {name: _census(census) for name, census in censuses.items() if census is not None},
        }


def _census(census: Census) -> dict[str, Any]:
    keys = ("float_ops", "transposes", "quantize", "dequantize", "requantize", "spatial_pads")
    counts = {key: getattr(census, key) for key in keys}
    return {"ops": census.ops, "clean": census.clean, **counts, "kinds": dict(census.kinds)}


def peak_memory(ops: Sequence[Op], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Bytes of activations that live at the same moment, at most: below this no runtime's arena can go.

    A tensor lives from the op that makes it to the last that reads it; the model's inputs live from the start, its
    outputs to the end. Nothing is computed in place, and scratch space of kernels is not in it.
    """
    last = {tensor.name: place for place, op in enumerate(ops) for tensor in op.inputs}
    last |= {tensor.name: len(ops) for tensor in outputs}
    live = {tensor.name: tensor.bytes for tensor in inputs}
    peak = sum(live.values())
    for place, op in enumerate(ops):
        live |= {tensor.name: tensor.bytes for tensor in op.outputs}
        peak = max(peak, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > place}
    return peak


@dataclass(frozen=True)
class Entry:
    """A model's first input: its type, and what its integers mean. `scale` is 0 where the file does not say.

    A float input has scale 1 and zero point 0. `signed` says whether the activations of an ONNX file are int8.
    """

    type: str
    scale: float
    zero_point: int
    signed: bool = False
