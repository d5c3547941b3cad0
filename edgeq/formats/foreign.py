"""Run a model file of unknown origin in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import by_suffix
from edgeq.errors import ArtifactError
from edgeq.formats.base import FileSession, format_class
from edgeq.isolation import Isolated, read_untrusted

__all__ = ["ForeignSession"]

CHUNK = 64
"""Number of samples sent to the other process at once; it bounds the memory that both processes hold."""


class ForeignSession:
    """A model file with one input, told apart by its suffix. Use it as a context manager.

    Raises `ArtifactError` from every method when the file is damaged, crashes its runtime or gets it stuck.
    """

    def __init__(self, model: Path, channels: int) -> None:
        """Load `model`; `channels` are those of its input, for files whose shape leaves the layout open."""
        self._inside = Isolated(_Session, str(model), channels)
        batch = int(self._inside.call("batch"))
        self._chunk = batch * max(1, CHUNK // batch)

    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
        """Return what the file was given and made of real `inputs` ``(N, C, H, W)``, both as the file has them."""
        parts = [
            self._inside.call("run", inputs[start : start + self._chunk])
            for start in range(0, len(inputs), self._chunk)
        ]
        file_input = np.concatenate([part[0] for part in parts])
        return file_input, [np.concatenate(outputs) for outputs in zip(*(part[1] for part in parts), strict=True)]

    def real_outputs(self, raw: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """Return the file's outputs, from here or another machine, as real values in logical order."""
        outputs: list[npt.NDArray[np.float32]] = self._inside.call("real_outputs", list(raw))
        return outputs

    def __enter__(self) -> ForeignSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._inside.__exit__(*error)


class _Session:
    """What lives in the other process."""

    def __init__(self, model: str, channels: int) -> None:
        self._model = model
        facts = by_suffix(Path(model))
        if facts is None:
            raise ArtifactError(f"{model} is no model file")
        self._session: FileSession
        with read_untrusted(f"{model} cannot be loaded"):
            self._session = format_class(facts).open_file(Path(model), channels)

    def batch(self) -> int:
        return self._session.batch

    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
        with read_untrusted(f"{self._model} cannot be run"):
            given, raw = self._session.run(inputs)
            if any(len(output) != len(inputs) for output in raw):
                raise ValueError("an output has another number of rows than the input")
            return given, raw

    def real_outputs(self, raw: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        with read_untrusted(f"outputs of {self._model} cannot be read"):
            return self._session.real_outputs(raw)
