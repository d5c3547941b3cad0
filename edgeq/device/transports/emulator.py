"""An emulated Arm as a device: this machine, with another Python."""

from __future__ import annotations

import os
import re
from typing import ClassVar

from edgeq.device.transport import TRANSPORTS, Listed, ShellTransport
from edgeq.device.transports.local import LocalTransport
from edgeq.device.userland import RUNTIMES, Userland, find_userland
from edgeq.errors import DeviceError, NoRuntimeError, UnknownDeviceError

__all__ = ["EmulatorTransport"]


@TRANSPORTS.register("emulator")
class EmulatorTransport(LocalTransport):
    """User-mode QEMU with an Arm Python. Its integers count as Arm results; its times never do."""

    forms: ClassVar = {
        "emulator:cortex-a72": "Raspberry Pi 4's processor, emulated: correctness, no times",
        "emulator:cortex-a76": "Raspberry Pi 5's processor, emulated: correctness, no times",
    }
    environments = tuple(RUNTIMES)

    def __init__(self, cpu: str, userland: Userland, runtime: str, *, patience: float = 0.0) -> None:
        """`runtime` is one of `edgeq.device.userland.RUNTIMES`: each has wheels of its own."""
        super().__init__(f"emulator:{cpu}", patience=patience)
        if not re.fullmatch(r"[a-z0-9-]+", cpu):
            raise UnknownDeviceError(f"no processor {cpu!r}", hint="emulator:cortex-a72 or emulator:cortex-a76")
        self.python = userland.python(cpu)
        self.environment = userland.environment(cpu) | {
            "PYTHONPATH": os.pathsep.join([str(userland.wheels(runtime)), str(userland.root / "usr/lib/python3.11")])
        }

    @classmethod
    def matches(cls, name: str) -> bool:
        return name.startswith("emulator:") and name != "emulator:"

    @classmethod
    def open(cls, name: str, *, runtime: str, patience: float) -> ShellTransport:
        if runtime not in RUNTIMES:
            raise NoRuntimeError(f"no runtime {runtime!r} in the emulated Arm", hint=", ".join(RUNTIMES))
        return cls(name.removeprefix("emulator:"), find_userland(), runtime, patience=patience)

    @classmethod
    def listed(cls) -> list[Listed]:
        try:
            find_userland()
            ready = True
        except DeviceError:
            ready = False
        remedy = "not there yet: edgeq device emulator --create"
        return [Listed(name, text, ready, remedy) for name, text in cls.forms.items()]
