"""How bytes and commands reach a device: run, push, pull, over anything that can carry a POSIX shell command.

A transport says how one shell command is carried (`ShellTransport.execute`); everything else is written once, here, in
terms of that. Files are pushed by content: what the device already holds is not sent again. On the device there is one
folder, ``~/.cache/edgeq`` or Android's place for it: `files/<sha256>/<name>` stays while it is used now and then,
`jobs/<name>` goes when a job ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import selectors
import shlex
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar

import platformdirs

from edgeq.device.exclusive import Hold, hold
from edgeq.errors import DeviceError, UnreachableError
from edgeq.files import write_atomic
from edgeq.registry import Registry

__all__ = [
    "LONGEST_ANSWER",
    "QUICK",
    "TRANSPORTS",
    "Completed",
    "Listed",
    "ShellTransport",
    "cache_folder",
    "call",
]

QUICK = 30.0
"""Seconds for a command that only looks around."""

LONGEST_ANSWER = 64 << 20
"""Bytes that a command may print on the device, beyond a file that was asked for."""

_PIECE = 1 << 16

SLOWEST_LINK = 100_000
"""Bytes per second below which a transfer counts as stuck."""

_UNFINISHED = 60 * 24
"""Minutes after which a job's folder on the device belongs to nobody: its machine or its connection died."""


_UNUSED = 30
"""Days after which a pushed file nobody asked for again is removed."""


@dataclass(frozen=True)
class Completed:
    """A command that ended: its exit `status`, and what it printed."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def last_words(self) -> str:
        """The last line on standard error: what a program says when it gives up."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


def cache_folder() -> Path:
    """edgeq's own folder for what several builds share on this machine."""
    return platformdirs.user_cache_path("edgeq")


def call(
    command: Sequence[str],
    *,
    data: bytes | None,
    timeout: float,
    where: str,
    held: bool = False,
    limit: int = LONGEST_ANSWER,
) -> Completed:
    """Run `command` here, in a process group of its own that does not outlive `timeout` seconds.

    `data` is its standard input. With `held` and no data, standard input stays open and empty until the command ends:
    a program on the device can tell by it that its connection is gone. Raises `DeviceError` after `timeout`, and when
    it prints more than `limit` bytes.
    """
    kept, end = os.pipe() if held and data is None else (-1, -1)
    try:
        process = subprocess.Popen(
            command,
            stdin=kept if kept >= 0 else subprocess.PIPE if data is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = _converse(process, data, time.monotonic() + timeout, limit)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # An ssh client has given our pipes to the process that holds the connection: their end may be far off.
            for pipe in (process.stdin, process.stdout, process.stderr):
                _close(pipe)
            process.wait()
            if isinstance(error, _EndlessError):
                raise DeviceError(
                    "the device does not stop talking",
                    where=where,
                    why=f"more than {limit >> 20} MiB came",
                    hint="see what it prints: nothing of it was kept",
                ) from error
            if isinstance(error, TimeoutError):
                raise UnreachableError(
                    "the device did not answer in time",
                    where=where,
                    why=f"no end after {timeout:.0f} s",
                    hint="give it more with --timeout, or see what keeps it busy",
                ) from error
            raise
    except FileNotFoundError as error:
        raise UnreachableError(f"{command[0]} is not installed here", where=where, hint="install it") from error
    finally:
        for handle in (kept, end):
            if handle >= 0:
                os.close(handle)
    return Completed(process.returncode, out, err.decode(errors="replace"))


class _EndlessError(Exception):
    """A program printed more than it may."""


def _converse(process: subprocess.Popen[bytes], data: bytes | None, until: float, limit: int) -> tuple[bytes, bytes]:
    """What `process`, fed with `data`, prints. Raises `TimeoutError`, and `_EndlessError` beyond `limit` bytes."""
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe, buffer in ((process.stdout, out), (process.stderr, err)):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, buffer)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        rest = memoryview(data or b"")
        while selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                if key.data is None:
                    try:
                        rest = rest[os.write(key.fd, rest[:_PIECE]) if rest else 0 :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:  # it has read enough, or is gone: its end says which
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(key.fileobj)
                        _close(process.stdin)
                    continue
                piece = os.read(key.fd, _PIECE)
                key.data.extend(piece)
                if not piece:
                    selector.unregister(key.fileobj)
                if len(out) + len(err) > limit:
                    raise _EndlessError
        process.wait(max(0.1, until - time.monotonic()))
    _close(process.stdout)
    _close(process.stderr)
    return bytes(out), bytes(err)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


@dataclass(frozen=True)
class Listed:
    """A line of `edgeq devices`: what `--device` takes, and what that is.

    `ready` is None where nobody looked, and where it is false `remedy` says what to do.
    """

    name: str
    description: str
    ready: bool | None = None
    remedy: str = ""


class ShellTransport(ABC):
    """A device that runs shell commands. `name` is as the user wrote it; `python` starts Python on the device.

    Use as a context manager: entering keeps everybody else off the device (`edgeq.device.exclusive`), leaving removes
    the job's folder and every connection.

    Register a subclass with ``TRANSPORTS.register``, or name it in another package's entry points of the group
    ``edgeq.transports``. It states which names of devices are its own (`matches`) and makes a transport of one
    (`open`).
    """

    forms: ClassVar[Mapping[str, str]] = {}
    """What `--device` takes for it, and what that is."""
    runner: ClassVar[str] = "python"
    """What runs files there: a name in `edgeq.device.runners.base.RUNNERS`."""
    environments: ClassVar[tuple[str, ...]] = ("litert",)
    """Runtimes that have to be looked for one by one, because each is in an environment of its own."""

    shared: ClassVar[bool] = False
    """Whether other machines may use it too: then it is leased, and locked where `lock_words` can."""

    name: str
    why: str = ""
    """What it is used for, for others who wait."""
    say: Callable[[str], None] = staticmethod(lambda _: None)
    """Hears who is waited for."""
    reserve: float = 0.0
    """Seconds for which it is leased past the end of the block, where it is `shared`."""
    held: Hold
    """What keeps others off, inside the block."""
    python: tuple[str, ...] = ("python3",)
    environment: Mapping[str, str] = {}
    folder = "${EDGEQ_DEVICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/edgeq"
    """edgeq's folder there, as the shell there would write it between double quotes. It is always one of its own: what
    else lies in the folder that the user named is not looked at."""
    remedy = "make ~/.cache writable there, or set EDGEQ_DEVICE_CACHE there to another folder"
    """What to do when that folder cannot be written."""

    def __init__(self, name: str, *, patience: float = 0.0) -> None:
        """`patience` is how many seconds to wait for another edgeq to finish with this device."""
        self.name = name
        self._patience = patience
        self._root = self._job = ""
        self._connected = False
        self._cleanup = contextlib.ExitStack()

    @classmethod
    @abstractmethod
    def matches(cls, name: str) -> bool:
        """Whether `name`, as the user wrote it, is a device of this kind."""

    @classmethod
    @abstractmethod
    def open(cls, name: str, *, runtime: str, patience: float) -> ShellTransport:
        """The device called `name`, not yet connected. `runtime` is the one that files will be run with there.

        Raises `DeviceError`, `ConfigError`.
        """

    @classmethod
    def full_name(cls, name: str) -> str:
        """The name results are kept under, where `name` is short for it. Raises `DeviceError`, `ConfigError`."""
        return name

    @classmethod
    def listed(cls) -> list[Listed]:
        """What `edgeq devices` says: `forms`, and devices that can be seen from here."""
        return [Listed(name, text) for name, text in cls.forms.items()]

    def by_hand(self, command: str) -> str:
        """What a person types on this machine to run `command` there."""
        return command

    @abstractmethod
    def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = QUICK, limit: int = LONGEST_ANSWER
    ) -> Completed:
        """Carry one shell command to the device, with `data` as its standard input.

        Without `data`, standard input stays open and empty until the command ends: what runs there can tell by its end
        that the connection is gone. `call` does that with ``held=True``. Raises `DeviceError` when the connection, not
        the command, fails, after `timeout` seconds, and beyond `limit` bytes of output.
        """

    def lock_words(self, script: str) -> Sequence[str] | None:
        """The words that run `script` here where the lock of a `shared` device is; it ends with its standard input.

        They are for after `connect`. None where there is no such place.
        """
        return None

    @property
    def lock_place(self) -> str:
        """What tells this device's lock apart where one machine has several."""
        return ""

    def __enter__(self) -> ShellTransport:
        try:
            self.held = self._cleanup.enter_context(hold(self, cache_folder(), self._patience))
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._job:
            with contextlib.suppress(DeviceError):  # a lost connection is being reported already
                self.execute(f"rm -rf {shlex.quote(self._job)}")
            self._job = ""
        self._disconnect()

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Connected, inside the block, with nobody kept off. Raises `DeviceError`."""
        try:
            self.reach()
            yield
        finally:
            self._disconnect()

    def reach(self) -> None:
        """Connect, unless it is connected. Raises `DeviceError`."""
        if not self._connected:
            self.connect()
            self._connected = True

    def _disconnect(self) -> None:
        self._connected = False
        self._cleanup.close()

    def connect(self) -> None:  # noqa: B027  # most transports have nothing to hold open
        """Open what `execute` needs. Raises `DeviceError`."""

    def run(self, words: Sequence[str], *, timeout: float, environment: Mapping[str, str] | None = None) -> Completed:
        """Run a program on the device, every word quoted, and wait for its end."""
        settings = {**self.environment, **(environment or {})}
        prefix = ["env", *(f"{key}={value}" for key, value in settings.items())] if settings else []
        return self.execute(shlex.join([*prefix, *words]), timeout=timeout)

    @property
    def root(self) -> str:
        """edgeq's folder on the device, made when first asked for."""
        if not self._root:
            done = self.execute(
                f'd="{self.folder}"; umask 077; '
                'mkdir -p "$d/files" "$d/jobs" && [ -w "$d/files" ] && cd "$d" || exit 1; '
                f"find jobs -mindepth 1 -maxdepth 1 -type d -name '{_hex(16)}' -mmin +{_UNFINISHED} "
                "-exec rm -rf {} + ; "
                f"find files -mindepth 2 -maxdepth 2 -type f -name '.{_hex(12)}.part' -mmin +{_UNFINISHED} "
                "-exec rm -f {} + ; "
                f"find files -mindepth 1 -maxdepth 1 -type d -name '{_hex(64)}' -mtime +{_UNUSED} "
                "-exec rm -rf {} + ; pwd"
            )
            lines = done.stdout.decode(errors="replace").split("\n")
            folder = next((line for line in reversed(lines) if line.startswith("/")), "")
            if done.status or not folder or folder == "/":
                raise DeviceError(
                    "edgeq's folder on the device cannot be written",
                    where=self.name,
                    why=done.last_words,
                    hint=self.remedy,
                )
            self._root = folder
        return self._root

    @property
    def job(self) -> str:
        """A folder on the device for this job's results; it goes when the transport is left."""
        if not self._job:
            path = f"{self.root}/jobs/{secrets.token_hex(8)}"
            done = self.execute(f"mkdir -m 700 {shlex.quote(path)}")
            if done.status:
                raise self._refused("a job's folder cannot be made", done)
            self._job = path
        return self._job

    def push(self, source: Path | bytes, name: str, *, timeout: float | None = None) -> str:
        """Put a file's bytes on the device under `name`, unless they are there. Returns the path there.

        The file appears whole or not at all: its size is counted on the device before it gets its name, so a connection
        that drops half way leaves nothing. Raises `DeviceError`.
        """
        data = source if isinstance(source, bytes) else source.read_bytes()
        folder = f"{self.root}/files/{hashlib.sha256(data).hexdigest()}"
        path = f"{folder}/{_plain(name)}"
        if self.execute(f"test -f {shlex.quote(path)} && touch {shlex.quote(folder)}").status == 0:
            return path
        destination, part = shlex.quote(path), shlex.quote(f"{folder}/.{secrets.token_hex(6)}.part")
        # A shell whose connection is gone dies of the next word it says: it must not, before it has cleaned up.
        command = (
            f"trap '' HUP PIPE; mkdir -p {shlex.quote(folder)} && cat > {part} && "
            f'if [ "$(wc -c < {part})" -eq {len(data)} ]; then mv -f {part} {destination}; '
            f"else echo cut short >&2; false; fi"
            f" || {{ s=$?; rm -f {part}; exit $s; }}"
        )
        done = self.execute(command, data=data, timeout=timeout or QUICK + len(data) / SLOWEST_LINK)
        if done.status:
            raise self._refused(f"{name} could not be put on the device", done)
        return path

    def pull(self, path: str, to: Path | None = None, *, timeout: float = 300.0, most: int = LONGEST_ANSWER) -> bytes:
        """A file's bytes from the device, at most `most`; also written to `to`, whole or not at all.

        Raises `DeviceError`.
        """
        # A login shell may greet everybody: what counts starts after a word it cannot know.
        quoted, word = shlex.quote(path), secrets.token_hex(8)
        command = f"printf {word} && wc -c < {quoted} && cat {quoted}"
        done = self.execute(command, timeout=timeout, limit=most + LONGEST_ANSWER)
        size, _, data = done.stdout.partition(word.encode())[2].partition(b"\n")
        if done.status or not re.fullmatch(rb"\s*[0-9]{1,15}\s*", size):
            raise self._refused(f"{Path(path).name} could not be fetched", done)
        if len(data) != int(size):
            raise DeviceError(
                f"{Path(path).name} could not be fetched",
                where=self.name,
                why=f"{len(data)} of {int(size)} bytes came",
                hint="try again",
            )
        if to is not None:
            write_atomic(to, data)
        return data

    def _refused(self, what: str, done: Completed) -> DeviceError:
        printed = done.stderr
        hint = "try again"
        if "No space left" in printed or "Disk quota" in printed:
            hint = f"free some space there; `rm -rf {self._root}` removes what edgeq keeps"
        elif "Permission denied" in printed or "Read-only" in printed:
            hint = self.remedy
        return DeviceError(what, where=self.name, why=done.last_words or f"exit status {done.status}", hint=hint)


def _hex(digits: int) -> str:
    """A shell pattern for names that edgeq made up: nothing else is ever removed on a device."""
    return "[0-9a-f]" * digits


def _plain(name: str) -> str:
    """A file name that is one: no folder, nothing hidden."""
    if not name or "/" in name or name.startswith(".") or "\0" in name:
        raise DeviceError(f"{name!r} cannot be a file name on a device")
    return name


TRANSPORTS: Registry[type[ShellTransport]] = Registry(
    "transport",
    tuple(f"edgeq.device.transports.{name}" for name in ("local", "ssh", "adb", "emulator")),
)
