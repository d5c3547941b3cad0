"""A device by the name a user gives it."""

from __future__ import annotations

from edgeq.device.transport import ShellTransport
from edgeq.device.transports.adb import AdbTransport, only_serial
from edgeq.device.transports.emulator import RUNTIMES, find_userland
from edgeq.device.transports.local import EmulatorTransport, LocalTransport
from edgeq.device.transports.ssh import SshTransport
from edgeq.errors import DeviceError

__all__ = ["DEVICES", "full_name", "open_device"]

DEVICES = {
    "local": "this machine",
    "USER@HOST": "a board, over the system's ssh; also ssh:NAME with a name out of ~/.ssh/config",
    "adb:SERIAL": "an Android device, over the system's adb; adb alone where one is connected",
    "emulator:cortex-a72": "Raspberry Pi 4's processor, emulated: correctness, no times",
    "emulator:cortex-a76": "Raspberry Pi 5's processor, emulated: correctness, no times",
}
"""What `--device` takes."""


def full_name(name: str) -> str:
    """The name results are kept under: ``adb`` becomes ``adb:SERIAL`` of the one phone there is, others stay.

    Raises `ConfigError` where several are connected, `DeviceError` where none is.
    """
    return f"adb:{only_serial()}" if name in ("adb", "adb:") else name


def open_device(name: str, *, runtime: str = "litert", patience: float = 0.0) -> ShellTransport:
    """The device called `name`, not yet connected. `runtime` decides which wheels an emulated one sees.

    Raises `DeviceError` for a name that is none, and for an emulated device nobody has created; `ConfigError` for
    ``adb`` where several are connected.
    """
    name = full_name(name)
    kind, _, rest = name.partition(":")
    if name == "local":
        return LocalTransport(patience=patience)
    if kind == "emulator" and rest:
        if runtime not in RUNTIMES:
            raise DeviceError(f"no runtime {runtime!r} in the emulated Arm", hint=", ".join(RUNTIMES))
        return EmulatorTransport(rest, find_userland(), runtime, patience=patience)
    if kind == "ssh" and rest:
        return SshTransport(rest, patience=patience)
    if kind == "adb":
        return AdbTransport(rest, patience=patience)
    if "@" in name:
        return SshTransport(name, patience=patience)
    raise DeviceError(f"no device {name!r}", hint=f"one of {', '.join(DEVICES)}")
