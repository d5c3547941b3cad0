"""What runs files on a device: the runner, apart from the transport that carries its bytes and commands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from edgeq.device.transport import ShellTransport
from edgeq.errors import DeviceError, NoRuntimeError
from edgeq.measure.validity import ENOUGH_RUNS
from edgeq.registry import Registry

__all__ = ["RUNNERS", "WARMUP", "Pace", "Runner", "Setup", "damaged_error", "runner_of"]

WARMUP = 0.2
"""Seconds that each file runs before it is timed; less where timing itself is shorter."""


@dataclass(frozen=True)
class Setup:
    """How a file is run on a device. `runtime` is one of the agent's, `session` onnxruntime's options by name.

    `program` is where on this machine Android's `benchmark_model` is, unless the environment says it.
    """

    runtime: str
    kernels: str
    threads: int = 1
    session: Mapping[str, str] = field(default_factory=dict)
    program: Path | None = None


@dataclass(frozen=True)
class Pace:
    """How long a file is timed: `least` pairs, and up to `most` while they fit into `seconds`, after `cooldown` seconds
    of rest. Then each file runs for `energy` seconds more where the board can tell its power; 0 leaves that out. The
    device must be done after `timeout` seconds."""

    least: int = ENOUGH_RUNS
    most: int = 400
    seconds: float = 4.0
    cooldown: float = 0.0
    energy: float = 3.0
    timeout: float = 900.0

    @property
    def warmup(self) -> float:
        """Seconds that each file runs before."""
        return min(WARMUP, self.seconds)


class Runner(ABC):
    """Runs files on `device`, a connected one."""

    runtimes: ClassVar[tuple[str, ...]]
    """Runtimes it can run files with, as `Setup.runtime` names them."""
    can_provision: ClassVar[bool] = False
    """Whether `edgeq device provision` can put a runtime there for it."""

    def __init__(self, device: ShellTransport) -> None:
        self.device = device

    @abstractmethod
    def probe(self, *, program: Path | None, timeout: float) -> dict[str, Any]:
        """Facts of the device: `machine`, `moment`, `runtimes` by name, `free_bytes`. Raises `DeviceError`."""

    def check(self, setup: Setup) -> None:
        """Raises `DeviceError` when files are not run like this on such a device, before anything is pushed."""
        if setup.runtime not in self.runtimes:
            raise NoRuntimeError(
                f"{setup.runtime} does not run there", where=self.device.name, hint=f"one of {', '.join(self.runtimes)}"
            )

    @abstractmethod
    def evaluate(
        self,
        model: Path,
        batch: npt.NDArray[Any],
        setup: Setup,
        *,
        timeout: float,
        expected: Sequence[npt.NDArray[Any]] | None,
    ) -> tuple[list[npt.NDArray[Any]], dict[str, Any]]:
        """Raw outputs ``(N, ...)`` of `model` for `batch`, and facts; see `edgeq.device.job.evaluate`."""

    @abstractmethod
    def bench(self, model: Path, baseline: Path | None, setup: Setup, pace: Pace) -> dict[str, Any]:
        """Time `model`, in turns with `baseline`; see `edgeq.device.job.bench` for the facts."""


RUNNERS: Registry[type[Runner]] = Registry("runner", ("edgeq.device.runners.python", "edgeq.device.runners.phone"))


def runner_of(device: ShellTransport) -> Runner:
    """What runs files on `device`, which its transport names. Raises `ConfigError` where nobody registered it."""
    return RUNNERS.get(device.runner)(device)


def damaged_error(device: ShellTransport, why: str) -> DeviceError:
    """What a device answered cannot be right."""
    return DeviceError("the device's answers are damaged", where=device.name, why=why, hint="try again")
