"""A phone as the `adb` client sees one: the host-device protocol over loopback TCP, a folder in the place of its disk.

The messages are those of AOSP's ``protocol.txt``, ``SYNC.TXT`` and ``shell_protocol.h``: CNXN, AUTH, OPEN, OKAY, WRTE
and CLSE; services ``shell,v2,raw:`` and ``sync:`` (STAT, LIST, SEND, RECV of version 1). Everything else is refused,
``reboot:`` too. Commands run here, in `shell`; ``/data``, ``/sys`` and ``/proc`` in them mean folders below `root`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

VERSION, LARGEST = 0x01000000, 64 * 1024
CHUNK = 32 * 1024
TOKEN, STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = 1, 0, 1, 2, 3, 4


class Phone:
    """A device listening on ``127.0.0.1:port``. Attributes change how it behaves from the next request on.

    `features` is what it says it can do, `authorized` whether it accepts the computer's key. With `full`, its disk
    takes nothing more; with `cut` a number, the connection drops after that many bytes of a pushed file.
    """

    def __init__(self, root: Path, environment: dict[str, str], shell: str) -> None:
        self.root, self.environment, self.shell = root, environment, shell
        self.features, self.authorized, self.full = "shell_v2,cmd", True, False
        self.cut: int | None = None
        self.asked: list[str] = []
        self._connections: list[socket.socket] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Pull the cable: every connection ends at once."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def close(self) -> None:
        """Switch it off: nothing it started stays."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # closing alone would leave it to the thread that waits on it
        self._listening.close()
        self.drop()
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def here(self, text: str) -> str:
        """Paths of the phone as those of the folder that stands for it; what is below that folder stays."""
        return re.sub(r"(?<![\w./-])/(data|sys|proc)\b", rf"{self.root}/\1", text)

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """A command of the phone, in a process group of its own as every shell of adbd."""
        process = subprocess.Popen(
            [self.shell, "-c", self.here(command)],
            cwd=self.root,
            env=self.environment,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._started.append(process)
        return process

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a command that has ended, and its pipes."""
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._started.remove(process)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=_Link(self, connection).serve, daemon=True).start()


class _Link:
    """One connection of an adb server, carrying any number of streams."""

    def __init__(self, phone: Phone, connection: socket.socket) -> None:
        self.phone, self._connection = phone, connection
        self._sending = threading.Lock()
        self._streams: dict[int, _Stream] = {}
        self._last = 0

    def serve(self) -> None:
        try:
            while True:
                kind, first, second, length, _sum, _magic = struct.unpack("<4s5I", self._exactly(24))
                self._take(kind, first, second, self._exactly(length))
        except (OSError, EOFError):
            for stream in list(self._streams.values()):
                stream.end()

    def send(self, kind: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = struct.unpack("<I", kind)[0] ^ 0xFFFFFFFF
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(struct.pack("<4s5I", kind, first, second, len(data), sum(data), magic) + data)

    def forget(self, stream: _Stream) -> None:
        self._streams.pop(stream.own, None)

    def cut(self) -> None:
        """The cable, out."""
        self._connection.shutdown(socket.SHUT_RDWR)

    def _take(self, kind: bytes, first: int, second: int, data: bytes) -> None:
        if kind == b"CNXN" and self.phone.authorized:
            said = f"device::ro.product.name=edgeq;ro.product.model=Test Phone;features={self.phone.features}"
            self.send(b"CNXN", VERSION, LARGEST, said.encode())
        elif kind in (b"CNXN", b"AUTH"):
            if kind == b"CNXN" or first != 3:  # 3 is a public key: a person would have to accept it now
                self.send(b"AUTH", TOKEN, 0, bytes(20))
        elif kind == b"OPEN":
            self._open(first, data.rstrip(b"\0").decode(errors="replace"))
        elif kind == b"WRTE" and second in self._streams:
            self._streams[second].received.put(data)
            self.send(b"OKAY", second, first)
        elif kind == b"OKAY" and second in self._streams:
            self._streams[second].ready.release()
        elif kind == b"CLSE" and second in self._streams:
            self._streams[second].end()

    def _open(self, theirs: int, service: str) -> None:
        self.phone.asked.append(service)
        name, _, argument = service.partition(":")
        words = name.split(",")
        handler: Callable[[_Stream], None] | None = None
        if words[0] == "shell" and "v2" in words and "raw" in words:
            handler = lambda stream: _shell(stream, argument)  # noqa: E731
        elif service == "sync:":
            handler = _sync
        if handler is None:
            self.send(b"CLSE", 0, theirs)
            return
        self._last += 1
        stream = self._streams[self._last] = _Stream(self, self._last, theirs)
        self.send(b"OKAY", stream.own, theirs)
        threading.Thread(target=self._handle, args=(handler, stream), daemon=True).start()

    def _handle(self, handler: Callable[[_Stream], None], stream: _Stream) -> None:
        with contextlib.suppress(EOFError, OSError):
            handler(stream)
        self.send(b"CLSE", stream.own, stream.theirs)
        self.forget(stream)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._connection.recv(size - len(found))
            if not part:
                raise EOFError
            found += part
        return found


class _Stream:
    """One service: bytes both ways. A packet is sent when the one before it was acknowledged."""

    def __init__(self, link: _Link, own: int, theirs: int) -> None:
        self.link, self.own, self.theirs = link, own, theirs
        self.received: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Semaphore(1)
        self._left = b""
        self._ended = False

    @property
    def phone(self) -> Phone:
        return self.link.phone

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises EOFError when the other side has closed."""
        while len(self._left) < size:
            part = self.received.get()
            if part is None:
                raise EOFError
            self._left += part
        found, self._left = self._left[:size], self._left[size:]
        return found

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), CHUNK):
            self.ready.acquire()
            if self._ended:
                raise EOFError
            self.link.send(b"WRTE", self.own, self.theirs, data[start : start + CHUNK])

    def end(self) -> None:
        self._ended = True
        self.received.put(None)
        self.ready.release()


def _shell(stream: _Stream, command: str) -> None:
    """Standard input, output and error in packets of their own, and at the end the exit status."""
    process = stream.phone.start(command)
    assert process.stdin is not None
    writing = threading.Lock()

    def pass_on(kind: int, source: object) -> None:
        with contextlib.suppress(EOFError):
            while data := os.read(source.fileno(), CHUNK - 5):  # type: ignore[attr-defined]
                with writing:
                    stream.write(struct.pack("<BI", kind, len(data)) + data)

    outputs = [
        threading.Thread(target=pass_on, args=pair, daemon=True)
        for pair in ((STDOUT, process.stdout), (STDERR, process.stderr))
    ]
    for thread in outputs:
        thread.start()

    def feed() -> None:
        assert process.stdin is not None
        try:
            while True:
                kind, length = struct.unpack("<BI", stream.read(5))
                data = stream.read(length)
                if kind == STDIN:
                    process.stdin.write(data)
                    process.stdin.flush()
                elif kind == CLOSE_STDIN:
                    break
        except EOFError:  # whoever asked is gone: adbd lets the shell know, and not what the shell has started
            process.send_signal(signal.SIGHUP)
        except OSError:
            pass  # it reads no more
        with contextlib.suppress(OSError):
            process.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    for thread in outputs:
        thread.join()
    status = process.wait()
    stream.phone.ended(process)
    stream.write(struct.pack("<BIB", EXIT, 1, status if status >= 0 else 128 - status))


def _sync(stream: _Stream) -> None:
    """Files in and out."""
    while True:
        kind, length = struct.unpack("<4sI", stream.read(8))
        if kind == b"QUIT":
            return
        said = stream.read(length).decode()
        path = Path(stream.phone.here(said))
        if kind == b"STAT":
            stream.write(struct.pack("<4s3I", b"STAT", *_described(path)))
        elif kind == b"LIST":
            for entry in sorted(path.iterdir()) if path.is_dir() else []:
                name = entry.name.encode()
                stream.write(struct.pack("<4s4I", b"DENT", *_described(entry), len(name)) + name)
            stream.write(struct.pack("<4s4I", b"DONE", 0, 0, 0, 0))
        elif kind == b"SEND":
            _keep(stream, said)
        elif kind == b"RECV":
            _give(stream, path)
        else:
            _fail(stream, "unknown request")
            return


def _described(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_mode, found.st_size, int(found.st_mtime)


def _keep(stream: _Stream, said: str) -> None:
    name, _, mode = said.rpartition(",")
    path = Path(stream.phone.here(name))
    taken, refused = 0, "No space left on device" if stream.phone.full else ""
    file = None
    if not refused:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("wb")
        except OSError as error:
            refused = error.strerror or "refused"
    with file or contextlib.nullcontext():
        while True:
            kind, length = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":
                break
            data = stream.read(length)
            taken += len(data)
            if stream.phone.cut is not None and taken > stream.phone.cut:
                stream.link.cut()
                raise EOFError
            if file:
                file.write(data)
    if refused:
        return _fail(stream, f"couldn't create file: {refused}")
    path.chmod(int(mode) & 0o777)
    return stream.write(struct.pack("<4sI", b"OKAY", 0))


def _give(stream: _Stream, path: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        return _fail(stream, error.strerror or "refused")
    for start in range(0, len(data), CHUNK):
        part = data[start : start + CHUNK]
        stream.write(struct.pack("<4sI", b"DATA", len(part)) + part)
    return stream.write(struct.pack("<4sI", b"DONE", 0))


def _fail(stream: _Stream, why: str) -> None:
    stream.write(struct.pack("<4sI", b"FAIL", len(why)) + why.encode())
