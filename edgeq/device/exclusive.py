"""Keep everybody else off a device while it is used: this user's other commands, a team, and all others.

Three layers, from near to far. A file lock on this machine, which the kernel drops when we die. A lease in the store
that a team shares (`edgeq.device.leases`). A lock on the board itself (`edgeq.device.boardlock`). A device that no
other machine uses, such as this machine, has the first alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from edgeq.device.boardlock import BoardLock, lock_board
from edgeq.device.leasefolder import LeaseFolder
from edgeq.device.leases import Lease, Leases, Record, owner_of
from edgeq.errors import ConfigError, DeviceBusyError, DeviceError

if TYPE_CHECKING:
    from edgeq.device.transport import ShellTransport

__all__ = ["Hold", "end_lease", "hold", "open_leases", "share"]


@dataclass(frozen=True)
class Hold:
    """What keeps others off a device; both are None where nobody else can use it."""

    lease: Lease | None = None
    lock: BoardLock | None = None

    @property
    def record(self) -> Record | None:
        """What the lease says, where there is one."""
        return self.lease.record if self.lease is not None else None

    def doubts(self) -> list[str]:
        """Why others may have used the device meanwhile, a sentence each."""
        reasons = []
        if self.lease is not None and self.lease.lost:
            reasons.append("its lease was lost meanwhile: others may have used the board")
        if self.lock is not None and not self.lock.missing and self.lock.lost:
            reasons.append("the lock on the board was lost meanwhile: others may have used it")
        return reasons

    def notes(self) -> list[str]:
        """What a reader of its times should know, a sentence each."""
        if self.lease is None:
            return []
        missing = self.lock.missing if self.lock is not None else "its transport has no place for one"
        return [f"there is no lock on the board, only a lease: {missing}"] if missing else []


_held: contextvars.ContextVar[dict[str, Hold]] = contextvars.ContextVar("_held")
"""What this thread shares, by the name of the device."""


def open_leases(folder: Path) -> Leases:
    """The leases in the store that `EDGEQ_CACHE` names, else in `folder`, edgeq's own here. Raises `ConfigError`."""
    shared = os.environ.get("EDGEQ_CACHE")
    if shared and "://" in shared:
        raise ConfigError(
            f"leases of boards cannot be kept in {shared}", why="they need a folder", hint="EDGEQ_CACHE=/path/all/mount"
        )
    store = Path(shared) if shared else folder
    return Leases(LeaseFolder(store / "leases"), owner_of(folder / "devices"))


@contextlib.contextmanager
def hold(device: ShellTransport, folder: Path, patience: float) -> Iterator[Hold]:
    """Connect `device` and keep others off it inside the block. `folder` is edgeq's own on this machine.

    Where `device.reserve` is not 0, that keeps them off for so many seconds, past the end of the block and of this
    process. Waits `patience` seconds for others, in all. Raises `DeviceBusyError`, `DeviceError`, `EdgeqError`.
    """
    outer = _held.get({})
    if device.name in outer:
        device.reach()
        yield outer[device.name]
        return
    until = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        stack.enter_context(_file_lock(device.name, folder, patience))
        found = Hold()
        if device.shared:
            lease = open_leases(folder).take(
                device.name,
                device.why,
                by_hand=device.reserve,
                patience=_left(until),
                over=lambda record: _is_free(device),
                say=device.say,
            )
            stack.enter_context(lease)
            device.reach()
            own = lease.record.token if lease.borrowed else ""
            lock = _lock_there(device, lease.record, _left(until), own=own, ended=lease.ended)
            if lock is not None:
                stack.callback(lock.release)
            found = Hold(lease, lock)
        else:
            device.reach()
        yield found


@contextlib.contextmanager
def share(name: str, held: Hold) -> Iterator[None]:
    """Inside the block, whoever holds the device `name` in this thread uses what `held` says."""
    token = _held.set({**_held.get({}), name: held})
    try:
        yield
    finally:
        _held.reset(token)


def end_lease(device: ShellTransport, folder: Path, record: Record) -> None:
    """End the lease `record` of `device`, whoever holds it, and its lock on the board. Raises `EdgeqError`."""
    open_leases(folder).release(record)
    with device.reached(), contextlib.suppress(DeviceBusyError):  # busy: somebody else has it by now
        if (lock := _lock_there(device, record, 0.0, ended=record.token)) is not None:
            lock.release()


def _is_free(device: ShellTransport) -> bool:
    """Whether nobody holds the lock on the board: then a lease by hand is over, whose time is counted there."""
    if device.lock_words("") is None:
        return False
    try:
        device.reach()
        lock = lock_board(device.lock_words, device.name, secrets.token_hex(16), "", place=device.lock_place)
    except DeviceError:
        return False
    lock.release()
    return not lock.missing


def _lock_there(
    device: ShellTransport, record: Record, patience: float, *, own: str = "", ended: str = ""
) -> BoardLock | None:
    """The lock on the board for `record`; None where there is no place for one."""
    if device.lock_words("") is None:
        return None
    return lock_board(
        device.lock_words,
        device.name,
        record.token,
        record.holder,
        place=device.lock_place,
        own=own,
        ended=ended,
        seconds=device.reserve,
        patience=patience,
        say=device.say,
    )


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


@contextlib.contextmanager
def _file_lock(device: str, folder: Path, patience: float) -> Iterator[None]:
    """Two jobs at once would disturb each other's timing. The kernel lets go when we die."""
    try:
        (folder / "devices").mkdir(parents=True, exist_ok=True)
        name = f"{hashlib.sha256(device.encode()).hexdigest()[:16]}.lock"
        held = FileLock(folder / "devices" / name, poll_interval=0.2).acquire(timeout=patience)
    except Timeout as error:
        raise DeviceBusyError(
            f"{device} is busy",
            why="another edgeq on this machine is using it",
            hint="wait for it, or give --wait SECONDS",
        ) from error
    except OSError:  # then no other edgeq of this user can hold the lock either
        yield
        return
    with held:
        yield
