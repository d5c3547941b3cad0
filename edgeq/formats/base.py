"""`Format`: the interface of a file format. Each format implements it in `format.py` of its folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import FORMATS, FormatFacts, Rounding
from edgeq.config.targets import Target
from edgeq.formats.census import Census
from edgeq.formats.contents import Contents, Entry
from edgeq.formats.exactness import Exactness
from edgeq.formats.metadata import ModelMetadata
from edgeq.formats.session import Session
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph

__all__ = ["FileSession", "Format", "format_class", "format_of"]


class FileSession(ABC):
    """A file of unknown origin, loaded: its values as the file has them, and as real numbers in logical order."""

    batch: int = 1
    """Samples that it takes at once."""

    @abstractmethod
    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
        """What the file was given and what it made of real `inputs` ``(N, C, H, W)``, both as the file has them."""

    @abstractmethod
    def real_outputs(self, raw: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """The file's outputs, from here or another machine, as real values in logical order."""


class Format(ABC):
    """A file format as a build uses it, for one target. What needs no target is a class method."""

    MAGIC: ClassVar[tuple[int, bytes]]
    """An offset, and the bytes that every file of the format has there; empty where no bytes tell the format apart."""

    def __init__(self, target: Target, weight_bits: int) -> None:
        self.target, self.weight_bits = target, weight_bits

    @property
    def suffix(self) -> str:
        """What its files' names end in."""
        return FORMATS.get(self.target.format).suffix

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

    @classmethod
    def may_hold(cls, data: bytes) -> bool:
        """Whether `data` begins as files of the format do."""
        place, expected = cls.MAGIC
        return data[place : place + len(expected)] == expected

    @classmethod
    @abstractmethod
    def read(cls, data: bytes, *, run: bool = True) -> Contents:
        """What is inside a file of unknown origin. `run` also lets its runtime load it and counts what that made."""

    @classmethod
    @abstractmethod
    def entry(cls, data: bytes) -> Entry:
        """The first input of a file of unknown origin."""

    @classmethod
    @abstractmethod
    def open_file(cls, path: Path, channels: int) -> FileSession:
        """Load a file of unknown origin; `channels` are those of its input, where its shape leaves the layout open."""

    @classmethod
    @abstractmethod
    def compare(
        cls, graph: IntegerGraph, data: bytes, inputs: npt.NDArray[np.float32], rounding: Rounding
    ) -> Exactness:
        """Every op of a file that was written from `graph`, against the reference; `rounding` says whose arithmetic
        the file is held to, where its runtime has another."""


def format_class(facts: FormatFacts) -> type[Format]:
    """The code of a format."""
    module, _, name = facts.implementation.partition(":")
    found: type[Format] = getattr(import_module(module), name)
    return found


def format_of(target: Target, weight_bits: int) -> Format:
    """The format that a target names. `weight_bits` are those of the quantizer; a writer may check them."""
    return format_class(FORMATS.get(target.format))(target, weight_bits)
