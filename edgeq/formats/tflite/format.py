"""TFLite files as a `Format`. Each part is loaded when it is used: a board that only runs files has no writer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

__all__ = ["TFLite"]


class TFLite(Format):
    """TFLite files, run by LiteRT."""

    MAGIC = (4, b"TFL3")

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

    @classmethod
    def read(cls, data: bytes, *, run: bool = True) -> Contents:
        from edgeq.formats.tflite.read import read_tflite

        return read_tflite(data)

    @classmethod
    def entry(cls, data: bytes) -> Entry:
        first = cls.read(data).inputs[0]
        if first.type == "float32":
            return Entry(first.type, 1.0, 0)
        grid = (first.scales[0], first.zero_point or 0) if len(first.scales) == 1 else (0.0, 0)
        return Entry(first.type, *grid)

    @classmethod
    def open_file(cls, path: Path, channels: int) -> FileSession:
        return _File(path, channels)

    @classmethod
    def compare(
        cls, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32], rounding: Rounding
    ) -> Exactness:
        from edgeq.formats.tflite.verify import verify_tflite

        return verify_tflite(graph, data, inputs)


class _File(FileSession):
    """Runs one sample at a time, as most files want it."""

    def __init__(self, path: Path, channels: int) -> None:
        from edgeq.formats.tflite.session import LiteRTSession

        self._session = LiteRTSession(path, channels=channels)

    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
        samples = [self._session.file_input(sample[None]) for sample in inputs]
        return np.concatenate(samples), self._session.run_raw(samples)

    def real_outputs(self, raw: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        return self._session.real_outputs(raw)
