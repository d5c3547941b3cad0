"""Who holds which board: one small object for each leased board, in the store that a team shares.

A holder that runs rewrites its object every few seconds, its heartbeat. Whoever waits watches the object by a clock of
its own: an object that has not changed for as long as it says it may is over, and is replaced, on condition that it is
still the same. Times of day are only shown to people, so clocks that differ break nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from edgeq.errors import ArtifactError, DeviceBusyError, printable
from edgeq.files import write_atomic

__all__ = ["HEARTBEAT", "SILENCE", "Lease", "LeaseStore", "Leases", "Record", "owner_of"]

HEARTBEAT = 5.0
"""Seconds between two signs of life of a holder that runs."""

SILENCE = 30.0
"""Seconds without one after which its lease is over."""

LONGEST = 7 * 86400.0
"""Seconds that a board can be leased by hand."""

LARGEST = 4096
"""Bytes of a lease object that are read."""

Line = Annotated[str, msgspec.Meta(max_length=200)]
Number = Annotated[float, msgspec.Meta(ge=0, le=LONGEST)]


class LeaseStore(Protocol):
    """Where lease objects are. Every change is made on a condition, by the store itself. Raises `EdgeqError`."""

    def get(self, key: str) -> bytes | None: ...

    def create(self, key: str, data: bytes) -> bool:
        """Whether there was none, so that there now is this one."""
        ...

    def replace(self, key: str, data: bytes, before: bytes) -> bool:
        """Whether it was `before`, so that it now is `data`."""
        ...

    def delete(self, key: str, before: bytes) -> bool:
        """Whether it was `before`, so that it now is gone."""
        ...

    def keys(self) -> list[str]: ...


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lease object. `token` is of one lease, `owner` of one user on one machine.

    `who`, `why` and times of day are for people. `silence` is how many seconds the object may stay unchanged.
    `by_hand` marks a lease without a running holder; its time is counted on the board, too.
    """

    device: Line
    token: Line
    owner: Line
    who: Line
    why: Line
    since: Line
    until: Line | None
    silence: Number
    by_hand: bool
    beat: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def holder(self) -> str:
        """The holder in words: who, why, until when."""
        until = f", until {self.until}" if self.until else ""
        return printable(f"{self.who} holds it{until}" + (f": {self.why}" if self.why else ""))


def owner_of(folder: Path) -> str:
    """A word for this user on this machine, kept in `folder`; one for this process alone where it cannot be kept."""
    path = folder / "owner"
    with contextlib.suppress(OSError, ArtifactError):
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, secrets.token_hex(16))
        word = path.read_text()[:32]
        if word.isalnum():
            return word
    return secrets.token_hex(16)


class Leases:
    """The leases in `store`, as seen by `owner`. `clock` counts seconds from any moment, `sleep` waits so many."""

    def __init__(
        self,
        store: LeaseStore,
        owner: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._owner, self._clock, self._sleep = store, owner, clock, sleep

    def records(self) -> list[Record]:
        """What is leased, by name of the board. Objects that are no lease are left out. Raises `EdgeqError`."""
        found = [_parse(self._store.get(key)) for key in self._store.keys()]  # noqa: SIM118
        return sorted((record for record in found if record is not None), key=lambda record: record.device)

    def find(self, device: str) -> Record | None:
        """The lease of `device`, if there is one. Raises `EdgeqError`."""
        return _parse(self._store.get(_key(device)))

    def is_mine(self, record: Record) -> bool:
        """Whether it is a lease of this user on this machine."""
        return record.owner == self._owner

    def take(
        self,
        device: str,
        why: str,
        *,
        by_hand: float = 0.0,
        patience: float = 0.0,
        over: Callable[[Record], bool] = lambda _: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> Lease:
        """Lease `device`, for `by_hand` seconds or, at 0, for as long as the lease is held and kept alive.

        Waits `patience` seconds for another holder; without patience, only until that one has shown that it lives.
        `over` may tell at once that a lease by hand has ended. What this user leased by hand is used, not taken. The
        caller makes sure that no other process of this user holds it. `say` hears who is waited for. Raises
        `DeviceBusyError`, `EdgeqError`.
        """
        key, began = _key(device), self._clock()
        seen: bytes | None = None
        seen_at, told, alive, asked = began, "", False, -SILENCE
        while True:
            record = self._new(device, why, by_hand)
            found, now = self._store.get(key), self._clock()
            if found is None:
                if self._store.create(key, _bytes(record)):
                    return self._lease(key, record)
                continue
            held = _parse(found)
            if found != seen:
                alive, seen, seen_at = seen is not None, found, now
            mine = held is not None and self.is_mine(held)
            if held is not None and mine and held.by_hand and not by_hand and not over(held):
                return Lease(self._store, key, held, self._clock, borrowed=True)
            # A lease of ours: its process is dead, its time is over, or another by hand takes its place.
            ended = mine or now - seen_at >= (held.silence if held else SILENCE)
            if not ended and held is not None and held.by_hand and now - asked >= SILENCE:
                asked, ended = now, over(held)
            if ended:
                if self._store.replace(key, _bytes(record), found):
                    return self._lease(key, record, held.token if held else "")
                continue
            holder = held.holder if held else "its lease is damaged"
            if now - began >= patience and (alive or (held is not None and held.by_hand)):
                raise DeviceBusyError(
                    f"{device} is leased", why=holder, hint="wait with --wait 10m; edgeq device list shows all leases"
                )
            if holder != told:
                told = holder
                say(f"waiting for {device}: {holder}")
            self._sleep(min(1.0, HEARTBEAT / 5))

    def release(self, record: Record) -> bool:
        """End the lease of `record`, whoever holds it. Whether it was still that one. Raises `EdgeqError`."""
        key = _key(record.device)
        for _ in range(10):  # a heartbeat may come between
            found = self._store.get(key)
            held = _parse(found)
            if found is None or held is None or held.token != record.token:
                return False
            if self._store.delete(key, found):
                return True
        return False

    def _new(self, device: str, why: str, by_hand: float) -> Record:
        now = datetime.now(timezone.utc)
        until = now + timedelta(seconds=by_hand)
        return Record(
            device=device[:200],
            token=secrets.token_hex(16),
            owner=self._owner,
            who=_who(),
            why=" ".join(why.split())[:200],
            since=now.strftime("%Y-%m-%d %H:%M UTC"),
            until=until.strftime("%Y-%m-%d %H:%M UTC") if by_hand else None,
            silence=by_hand or SILENCE,
            by_hand=bool(by_hand),
        )

    def _lease(self, key: str, record: Record, ended: str = "") -> Lease:
        return Lease(self._store, key, record, self._clock, ended=ended)


class Lease:
    """A lease that is held. Use as a context manager: inside the block it is kept alive, leaving ends it.

    `ended` is the token of the lease it replaced. A `borrowed` one was made by hand, and stays.
    """

    def __init__(
        self,
        store: LeaseStore,
        key: str,
        record: Record,
        clock: Callable[[], float],
        *,
        ended: str = "",
        borrowed: bool = False,
    ) -> None:
        self.record, self.ended, self.borrowed = record, ended, borrowed
        self._store, self._key, self._clock = store, key, clock
        self._data, self._kept, self._taken = _bytes(record), clock(), False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @property
    def lost(self) -> bool:
        """Whether others may have taken it: it is not this one any more, or could not be kept alive."""
        return self._taken or (not self.record.by_hand and self._clock() - self._kept > SILENCE)

    def __enter__(self) -> Lease:
        if not self.record.by_hand:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self.borrowed and (kind is not None or not self.record.by_hand):
            with contextlib.suppress(Exception):  # a store that is away: the lease ends by its silence
                self._store.delete(self._key, self._data)

    def beat(self) -> None:
        """One sign of life. Raises `EdgeqError`."""
        following = msgspec.structs.replace(self.record, beat=self.record.beat + 1)
        if self._store.replace(self._key, _bytes(following), self._data):
            self.record, self._data, self._kept = following, _bytes(following), self._clock()
        else:
            self._taken = True

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT) and not self._taken:
            with contextlib.suppress(Exception):  # a store that is away for a moment; `lost` counts how long
                self.beat()


def _key(device: str) -> str:
    """A name for the object that every store takes."""
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in device)[:60]
    return f"{plain}-{hashlib.sha256(device.encode()).hexdigest()[:12]}.json"


def _bytes(record: Record) -> bytes:
    return msgspec.json.encode(record)


def _parse(data: bytes | None) -> Record | None:
    """The record in `data`; None where it is none."""
    if data is None or len(data) > LARGEST:
        return None
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.MsgspecError:
        return None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:200]
