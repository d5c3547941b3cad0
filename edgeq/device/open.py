"""A device by the name a user gives it."""

from __future__ import annotations

from edgeq.device.transport import TRANSPORTS, ShellTransport
from edgeq.errors import UnknownDeviceError
from edgeq.registry import closest

__all__ = ["full_name", "open_device", "transport_of"]


def transport_of(name: str) -> type[ShellTransport]:
    """The kind of transport whose name `name` is. Raises `DeviceError` where it is no device's."""
    kinds = TRANSPORTS.entries()
    transport = next((kind for kind in kinds if kind.matches(name)), None)
    if transport is None:
        forms = [form for kind in kinds for form in kind.forms]
        meant = closest(name, [form for form in forms if form == form.lower()], cutoff=0.7)  # the others are patterns
        hint = f"did you mean {meant!r}?" if meant else f"one of {', '.join(forms)}"
        raise UnknownDeviceError(f"no device {name!r}", hint=hint)
    return transport


def full_name(name: str) -> str:
    """The name results are kept under: ``adb`` becomes ``adb:SERIAL`` of the one phone there is, others stay.

    Raises `ConfigError` where several are connected, `DeviceError` where none is.
    """
    return transport_of(name).full_name(name)


def open_device(name: str, *, runtime: str = "litert", patience: float = 0.0) -> ShellTransport:
    """The device called `name`, not yet connected. `runtime` decides which wheels an emulated one sees.

    Raises `DeviceError` for a name that is none, and for an emulated device nobody has created; `ConfigError` for
    ``adb`` where several are connected.
    """
    kind = transport_of(name)
    return kind.open(kind.full_name(name), runtime=runtime, patience=patience)
