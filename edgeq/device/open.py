"""A device by the name a user gives it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from edgeq.device.exclusive import Hold, share
from edgeq.device.transport import TRANSPORTS, ShellTransport
from edgeq.errors import UnknownDeviceError
from edgeq.registry import closest

__all__ = ["full_name", "lease", "open_device", "transport_of"]


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


def open_device(
    name: str,
    *,
    runtime: str = "litert",
    patience: float = 0.0,
    why: str = "",
    reserve: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> ShellTransport:
    """The device called `name`, not yet connected. `runtime` decides which wheels an emulated one sees.

    Inside its block nobody else uses it (`edgeq.device.exclusive`): others who wait are told `why`, `say` hears who is
    waited for, for at most `patience` seconds. With `reserve` a shared one stays leased for so many seconds.

    Raises `DeviceError` for a name that is none, and for an emulated device nobody has created; `ConfigError` for
    ``adb`` where several are connected.
    """
    kind = transport_of(name)
    device = kind.open(kind.full_name(name), runtime=runtime, patience=patience)
    device.why, device.reserve, device.say = why, reserve, say
    return device


@contextlib.contextmanager
def lease(
    name: str, *, patience: float = 0.0, why: str = "", say: Callable[[str], None] = lambda _: None
) -> Iterator[Hold]:
    """Keep everybody else off the device `name` over several commands.

    What this thread does on it inside the block shares the one lease and the one lock. Raises as `open_device` and its
    block do.
    """
    with open_device(name, patience=patience, why=why, say=say) as device, share(device.name, device.held):
        yield device.held
