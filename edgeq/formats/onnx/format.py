"""ONNX files in QDQ form as a `Format`. Each part is loaded when it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import Rounding
from edgeq.formats.base import FileSession, Format
from edgeq.formats.census import Census
from edgeq.formats.contents import Contents, Entry
from edgeq.formats.exactness import Exactness
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.session import Session
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph

__all__ = ["ONNX"]


class ONNX(Format):
    """ONNX files in QDQ form, run by onnxruntime."""

    MAGIC = (0, b"")  # a protocol buffer has no bytes that tell it apart

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

    @classmethod
    def read(cls, data: bytes, *, run: bool = True) -> Contents:
        from edgeq.formats.onnx.read import read_onnx

        return read_onnx(data, run=run)

    @classmethod
    def entry(cls, data: bytes) -> Entry:
        from onnx.helper import tensor_dtype_to_np_dtype

        from edgeq.formats.onnx.file import read_model

        model, _ = read_model(data)
        value = model.inputs[0]
        kind = np.dtype(tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name
        signed = model.signed_activations()
        if kind == "float32":
            return Entry(kind, 1.0, 0, signed)
        grid = model.input_grid(value.name)
        return Entry(kind, *((float(grid.scale), grid.zero_point) if grid else (0.0, 0)), signed)

    @classmethod
    def open_file(cls, path: Path, channels: int) -> FileSession:
        return _File(path)

    @classmethod
    def compare(
        cls, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32], rounding: Rounding
    ) -> Exactness:
        from edgeq.formats.onnx.file import read_model
        from edgeq.formats.onnx.verify import verify_onnx

        kind: Literal["int8", "uint8"] = "int8" if read_model(data)[0].signed_activations() else "uint8"
        return verify_onnx(graph, data, inputs, kind, rounding=rounding)


class _File(FileSession):
    """Runs a batch at a time."""

    def __init__(self, path: Path) -> None:
        from edgeq.formats.onnx.session import OrtSession

        self._session = OrtSession(path)
        self.batch = self._session.file_batch or 1

    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
        given = self._session.file_input(inputs)
        return given, self._session.run_raw(given)

    def real_outputs(self, raw: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        return self._session.real_outputs(raw)
