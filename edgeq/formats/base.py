"""`Format`: the interface of a file format (write, open, verify, census), and the formats that implement it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from edgeq.config.targets import Target
from edgeq.formats.census import Census
from edgeq.formats.exactness import Exactness
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.session import Session
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph

__all__ = ["Format", "format_of"]


class Format(ABC):
    """A file format as a build uses it, for one target."""

    suffix: str

    def __init__(self, target: Target, weight_bits: int) -> None:
        self.target, self.weight_bits = target, weight_bits

    @abstractmethod
    def write(self, graph: IntegerGraph, io: str | None, weights: str, about: ModelMetadata | None = None) -> bytes:
        """The integer model; `io` is the type of its inputs and outputs, None for what they have in `graph`, `weights`
        the type that those of four bits or fewer are stored in, `about` what the file tells of itself."""

    @abstractmethod
    def write_float(self, graph: Graph) -> bytes:
        """Write the network in float32, the baseline of size and latency."""

    @abstractmethod
    def open(self, path: Path, threads: int, *, timed: bool = True) -> Session:
        """A session with the kernels the target names. Unless it is to be `timed`, threads that wait for work sleep."""

    @abstractmethod
    def verify(self, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32]) -> Exactness:
        """The file's own runtime against the exact reference, every op's output."""

    @abstractmethod
    def census(self, data: bytes) -> Census:
        """What the runtime makes of the file."""


class TFLite(Format):
    """TFLite files, run by LiteRT."""

    suffix = ".tflite"

    def write(self, graph: IntegerGraph, io: str | None, weights: str, about: ModelMetadata | None = None) -> bytes:
        from edgeq.formats.tflite.writer import write_tflite

        return write_tflite(graph, io=io, weights=weights, about=about)

    def write_float(self, graph: Graph) -> bytes:
        from edgeq.formats.tflite.writer import write_tflite_float

        return write_tflite_float(graph)

    def open(self, path: Path, threads: int, *, timed: bool = True) -> Session:
        from edgeq.formats.tflite.session import LiteRTSession

        return LiteRTSession(path, kernels=self.target.kernels, threads=threads, nhwc=True)  # as the writers have it

    def verify(self, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32]) -> Exactness:
        from edgeq.formats.tflite.verify import verify_tflite

        return verify_tflite(graph, data, inputs)

    def census(self, data: bytes) -> Census:
        from edgeq.formats.tflite.census import census

        return census(data)


class ONNX(Format):
    """ONNX files in QDQ form, run by onnxruntime."""

    suffix = ".onnx"

    @property
    def _activations(self) -> Literal["int8", "uint8"]:
        return "uint8" if self.target.activations == "uint8" else "int8"

    def write(self, graph: IntegerGraph, io: str | None, weights: str, about: ModelMetadata | None = None) -> bytes:
        from edgeq.formats.onnx.metadata import add_metadata
        from edgeq.formats.onnx.writer import write_onnx

        kind = cast(Literal["float32", "int8", "uint8"], io)
        bits: Literal[7, 8] = 7 if self.weight_bits <= 7 else 8
        data = write_onnx(graph, activations=self._activations, io=kind, weight_bits=bits)
        return data if about is None else add_metadata(data, about)

    def write_float(self, graph: Graph) -> bytes:
        from edgeq.formats.onnx.writer import write_onnx_float

        return write_onnx_float(graph)

    def open(self, path: Path, threads: int, *, timed: bool = True) -> Session:
        from edgeq.formats.onnx.session import OrtSession

        waiting = {} if timed else {"session.intra_op.allow_spinning": "0"}
        return OrtSession(path, threads=threads, session=waiting | dict(self.target.session))

    def verify(self, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32]) -> Exactness:
        from edgeq.formats.onnx.verify import verify_onnx

        return verify_onnx(graph, data, inputs, self._activations)

    def census(self, data: bytes) -> Census:
        from edgeq.formats.onnx.census import optimized_census

        return optimized_census(data, self._activations)


def format_of(target: Target, weight_bits: int) -> Format:
    """The format that a target names. `weight_bits` are those of the quantizer; a writer may check them."""
    return {"tflite": TFLite, "onnx": ONNX}[target.format](target, weight_bits)
