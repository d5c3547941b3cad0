"""This machine as a device, and an emulated Arm as one: the same commands, another Python."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from edgeq.device.transport import LONGEST_ANSWER, QUICK, Completed, ShellTransport, call
from edgeq.errors import DeviceError

if TYPE_CHECKING:
    from edgeq.device.transports.emulator import Userland

__all__ = ["EmulatorTransport", "LocalTransport"]


class LocalTransport(ShellTransport):
    """This machine, through its own shell."""

    def __init__(self, name: str = "local", *, patience: float = 0.0) -> None:
        super().__init__(name, patience=patience)
        self.python = (sys.executable,)

    def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = QUICK, limit: int = LONGEST_ANSWER
    ) -> Completed:
        return call(["/bin/sh", "-c", command], data=data, timeout=timeout, where=self.name, held=True, limit=limit)


class EmulatorTransport(LocalTransport):
    """User-mode QEMU with an Arm Python. Its integers count as Arm results; its times never do."""

    def __init__(self, cpu: str, userland: Userland, runtime: str, *, patience: float = 0.0) -> None:
        """`runtime` is one of `edgeq.device.transports.emulator.RUNTIMES`: each has wheels of its own."""
        super().__init__(f"emulator:{cpu}", patience=patience)
        if not re.fullmatch(r"[a-z0-9-]+", cpu):
            raise DeviceError(f"no processor {cpu!r}", hint="emulator:cortex-a72 or emulator:cortex-a76")
        self.python = userland.python(cpu)
        self.environment = userland.environment(cpu) | {
            "PYTHONPATH": os.pathsep.join([str(userland.wheels(runtime)), str(userland.root / "usr/lib/python3.11")])
        }
