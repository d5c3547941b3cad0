"""IntegerGraph: the single source of truth every writer, the reference and the reports read.

Integers, scales and zero points and nothing else: int8 weights (symmetric, one scale per output channel), int32 biases
(scale = input scale x weight scale), one scale and zero point for every activation. An op reads and makes one type:
int8, or int16 with zero point 0 and biases in int64; `Requantize` stands between. Same nodes, ops and logical NCHW
order as the float `Graph` it was frozen from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from edgeq.errors import ArtifactError, UnsupportedError
from edgeq.graph.ir import Node
from edgeq.graph.ops import Shape, op_from_json, op_to_json
from edgeq.graph.printing import NodeRow, format_table
from edgeq.integer.printing import integer_rows
from edgeq.limits import check_regular

__all__ = ["LIMITS", "IntegerGraph", "Quantization"]

LIMITS: Mapping[str, tuple[int, int]] = {
    "int4": (-8, 7),
    "int8": (-128, 127),
    "int16": (-32768, 32767),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
}
"""Smallest and largest integer of each storage type. Activations are described signed; a writer may shift them."""

_STORED = {"int4": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64}
"""Bits of each storage type."""

_HELD: Mapping[str, type[np.signedinteger[Any]]] = {"int8": np.int8, "int16": np.int16}

SCHEMA = 1


@dataclass(frozen=True)
class Quantization:
    """real = scale x (integer - zero_point).

    `scale` is float32, one number (shape ``()``) or one per slice along `axis`; `zero_point` is int32, same shape.
    `dtype` is a key of `LIMITS`, the type the integers are stored in. `bits`, where it is fewer than that type has,
    is what they are confined to: a 4-bit value in int8 storage lies in -8..7. None: all that the type holds.
    """

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int32]
    dtype: str = "int8"
    axis: int | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, dtype=np.float32)
        zero = np.asarray(self.zero_point, dtype=np.int32)
        if zero.shape == () and scale.shape != ():
            zero = np.broadcast_to(zero, scale.shape).copy()
        if self.bits is not None and not 2 <= self.bits <= _STORED[self.dtype]:
            raise UnsupportedError(f"{self.bits} bits in {self.dtype}", why=f"2 to {_STORED[self.dtype]} fit")
        if self.bits == _STORED[self.dtype]:  # one way to say it, so that equal quantizations are equal
            object.__setattr__(self, "bits", None)
        low, high = self.limits
        if scale.shape != zero.shape or (self.axis is None) != (scale.shape == ()):
            raise UnsupportedError("a quantization needs one zero point per scale, and an axis when there are several")
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0) and np.all(zero >= low) and np.all(zero <= high)):
            raise UnsupportedError("a quantization needs positive finite scales and zero points its type can hold")
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "zero_point", zero)

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer, both included."""
        if self.bits is None:
            return LIMITS[self.dtype]
        half = 1 << (self.bits - 1)
        return -half, half - 1

    def quantize(self, real: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Nearest integers, saturated; for values quantized per tensor. Rounds half away from zero as TFLite does."""
        ratio = np.asarray(real, dtype=np.float32) / self.scale
        nearest = np.sign(ratio) * np.floor(np.abs(ratio) + np.float32(0.5)) + self.zero_point
        return np.asarray(np.clip(nearest, *self.limits).astype(_HELD.get(self.dtype, np.int32)))

    def dequantize(self, integers: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Real values, per tensor."""
        return (integers.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale


@dataclass(frozen=True)
class IntegerGraph:
    """Frozen integers of a network. `shapes` and `quantizations` cover inputs, constants and every node's output."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, npt.NDArray[Any]]
    quantizations: Mapping[str, Quantization]
    input_shapes: Mapping[str, Shape]
    shapes: Mapping[str, Shape] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = {name: tuple(self.input_shapes[name]) for name in self.inputs}
        shapes |= {name: tuple(array.shape) for name, array in self.constants.items()}
        for node in self.nodes:
            if not all(name in shapes for name in node.inputs):
                raise UnsupportedError("an input is used before it is made", where=node.name)
            shapes[node.name] = node.op.infer([shapes[name] for name in node.inputs])
        bare = [name for name in shapes if name not in self.quantizations]
        if bare or not all(name in shapes for name in self.outputs):
            raise UnsupportedError(f"value {bare[0] if bare else 'output'} has no quantization", where=self.name)
        for node in self.nodes:
            self._check_clamp(node)
        object.__setattr__(self, "shapes", shapes)

    def _check_clamp(self, node: Node) -> None:
        """A clamp on a grid that others decide, such as the network input's, may leave nothing that the grid holds."""
        clamp = node.op.clamp
        if clamp is None or clamp is not node.op:  # a fused one ends the grid that it was calibrated with
            return
        q = self.quantizations[node.name]
        low, high = (float(q.dequantize(np.asarray(end))) for end in q.limits)
        slack = 0.5 * float(q.scale)
        if clamp.minimum > high + slack or clamp.maximum < low - slack:
            raise UnsupportedError(
                f"a clamp to [{clamp.minimum:g}, {clamp.maximum:g}] of values from {low:g} to {high:g}",
                where=node.name,
                why="it leaves one value, which their scale cannot hold",
                hint="leave the clamp out",
            )

    @property
    def activation_types(self) -> frozenset[str]:
        """The types activations are stored in: int8, int16 or both. Raises `UnsupportedError` for an op that would read
        one and make the other, unless that is what it is for."""
        for node in self.nodes:
            types = {self.quantizations[name].dtype for name in (*self.activations(node), node.name)}
            if len(types) > 1 and node.op.output_bits is None:
                raise UnsupportedError(
                    f"{' and '.join(sorted(types))} activations in one {type(node.op).__name__}",
                    where=node.name,
                    why="a kernel reads and writes one type",
                    hint="requantize between them",
                )
        return frozenset(self.quantizations[name].dtype for name in (*self.inputs, *(n.name for n in self.nodes)))

    def narrow(self) -> tuple[str, ...]:
        """Activations confined to fewer bits than they are stored in, which no runtime's kernels saturate to."""
        values = (*self.inputs, *(node.name for node in self.nodes))
        return tuple(name for name in values if self.quantizations[name].bits is not None)

    def layers(self) -> Iterator[Node]:
        """The convolutions and linear layers, in order."""
        return (node for node in self.nodes if node.op.is_layer)

    def activations(self, node: Node) -> tuple[str, ...]:
        """The inputs of `node` that are not constants."""
        return tuple(name for name in node.inputs if name not in self.constants)

    def rows(self) -> list[NodeRow]:
        """The table that `print` shows, as data."""
        return integer_rows(self)

    def __str__(self) -> str:
        return format_table(f"{self.name}: integers", self.rows(), self.outputs)

    def to_bytes(self) -> bytes:
        """A safetensors file: integer constants and scales as tensors, structure as JSON in its metadata."""
        tensors: dict[str, npt.NDArray[Any]] = {
            f"constant.{k}": np.ascontiguousarray(v) for k, v in self.constants.items()
        }
        table = {}
        for name, q in self.quantizations.items():
            tensors[f"scale.{name}"] = np.atleast_1d(q.scale)
            tensors[f"zero.{name}"] = np.atleast_1d(q.zero_point)
            table[name] = {"dtype": q.dtype, "axis": q.axis} | ({} if q.bits is None else {"bits": q.bits})
        structure = {
            "schema": SCHEMA,
            "name": self.name,
            "inputs": {name: list(self.input_shapes[name]) for name in self.inputs},
            "outputs": list(self.outputs),
            "nodes": [[n.name, op_to_json(n.op), list(n.inputs)] for n in self.nodes],
            "quantizations": table,
        }
        return bytes(save(tensors, metadata={"edgeq": json.dumps(structure, sort_keys=True)}))

    def digest(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> IntegerGraph:
        """Read what `to_bytes` wrote. Raises `ArtifactError` for anything else."""
        from safetensors import SafetensorError, safe_open

        try:
            check_regular(path)
            with safe_open(path, framework="numpy") as file:
                structure = json.loads((file.metadata() or {})["edgeq"])
                keys = file.keys()  # the file itself cannot be iterated
                tensors = {key: file.get_tensor(key) for key in keys}
            if structure["schema"] != SCHEMA:
                raise ArtifactError(f"{path} has schema {structure['schema']}", hint=f"this edgeq reads {SCHEMA}")
            quantizations = {}
            for name, entry in structure["quantizations"].items():
                scale, zero = tensors[f"scale.{name}"], tensors[f"zero.{name}"]
                if entry["axis"] is None:
                    scale, zero = scale.reshape(()), zero.reshape(())
                quantizations[name] = Quantization(scale, zero, entry["dtype"], entry["axis"], entry.get("bits"))
            return cls(
                name=structure["name"],
                inputs=tuple(structure["inputs"]),
                outputs=tuple(structure["outputs"]),
                nodes=tuple(Node(n, op_from_json(op), tuple(i)) for n, op, i in structure["nodes"]),
                constants={k.removeprefix("constant."): v for k, v in tensors.items() if k.startswith("constant.")},
                quantizations=quantizations,
                input_shapes={name: tuple(shape) for name, shape in structure["inputs"].items()},
            )
        except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise ArtifactError(f"{path} is not an integer graph", why=str(error)) from error
