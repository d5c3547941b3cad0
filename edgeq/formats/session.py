"""`Session`: the interface of every runtime, for measurement and verification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Session"]


class Session(ABC):
    """A loaded model. Inputs and outputs are real values in logical order (NCHW, normalised as the model was trained);
    the session quantizes, dequantizes and rearranges them as the file says.
    """

    runtime: str
    """Package and version, e.g. ``ai-edge-litert 2.3.0``."""
    kernels: str
    """Which kernels were asked for: ``xnnpack``, ``builtin``, ``reference``, ``mlas`` ..."""
    threads: int

    @abstractmethod
    def run(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Real-valued outputs, one array per model output, each ``(N, ...)``, for inputs ``(N, C, H, W)``."""

    @abstractmethod
    def run_integers(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        """Like `run`, but outputs as the integers the file holds (logical order); only for integer models."""

    @abstractmethod
    def prepare(self, sample: npt.NDArray[np.float32]) -> None:
        """Set one input ``(1, C, H, W)`` for `invoke`."""

    @abstractmethod
    def invoke(self) -> None:
        """One inference on the prepared input, outputs computed and dropped: the thing to time."""
