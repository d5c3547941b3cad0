"""Run native code on files of unknown origin in a process of its own.

Runtimes abort, loop or take all memory on a file where Python would raise. Behind this wall that becomes one
`ArtifactError`. Every place that gives such a file to a runtime or to a native parser goes through here; only files
that edgeq itself has just written are loaded without it.

Limits of the process: `memory_limit` bytes of address space, `PATIENCE` seconds without a sign of life, no core dump,
nothing on the caller's standard output and error, and no longer life than the caller's.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from edgeq.errors import ArtifactError, EdgeqError, RuntimeCrashError

try:
    import resource
except ImportError:  # Windows limits no process this way
    resource = None  # type: ignore[assignment]

__all__ = ["PATIENCE", "Isolated", "alive", "read_untrusted", "run_isolated"]

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that isolated work may go without a call of `alive` before it counts as stuck."""

MEMORY_SHARE = 0.75
"""Share of this machine's memory, or of the container's, that an isolated process may take."""

LARGEST_FILE = 1 << 32
"""Bytes that isolated work may write into one file: twice the largest model, so that a log cannot fill the disk."""

FORKS = "forkserver" in multiprocessing.get_all_start_methods()
"""Whether processes can be forked off a clean server. On Windows each starts Python anew, silent when it dies."""

_HEARTBEAT = 1.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl

_pipe: Connection | None = None
_last_beat = 0.0


def run_isolated(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Compute ``work(*arguments, **options)`` in a fresh process and return or raise what it returns or raises.

    Function, arguments and result must pickle. Raises `ArtifactError` where the process dies, is stuck or runs out of
    memory.
    """
    with _Process(work.__module__) as process:
        return process.ask("run", work, arguments, options)  # type: ignore[no-any-return]


class Isolated:
    """An object that is made, and lives, in a process of its own. Use it as a context manager."""

    def __init__(self, make: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Call `make` there. Raises what it raises, and `ArtifactError` as `run_isolated` does."""
        self._process = _Process(make.__module__)
        try:
            self._process.ask("make", make, arguments, options)
        except BaseException:
            self._process.stop()
            raise

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the object. Raises what it raises, and `ArtifactError` as `run_isolated` does."""
        return self._process.ask("call", method, arguments, options)

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stop()


def alive() -> None:
    """Tell the process that waits for this one that work goes on. Does nothing in a process that nobody waits for."""
    global _last_beat
    now = time.monotonic()
    if _pipe is not None and now - _last_beat > _HEARTBEAT:
        _last_beat = now
        _pipe.send(("alive", None))


@contextlib.contextmanager
def read_untrusted(what: str, hint: str = "it is damaged: make it again") -> Iterator[None]:
    """Context that turns every error inside into an `ArtifactError` with the message `what`, which names the file."""
    try:
        yield
    except EdgeqError:
        raise
    except MemoryError as error:
        raise RuntimeCrashError(what, why=f"it needs more memory than {memory_limit() >> 20} MiB", hint=hint) from error
    except Exception as error:  # runtimes and parsers share no exceptions
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise ArtifactError(what, why=f"{type(error).__name__}: {reason}", hint=hint) from error


def memory_limit() -> int:
    """Bytes of memory that isolated work may take: `MEMORY_SHARE` of what this machine or container has."""
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 22  # Windows: a word for messages
    total = pages * (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not Linux, no limit ("max"), or another hierarchy
            total = min(total, int(Path(file).read_text()))
    return int(MEMORY_SHARE * total)


class _Process:
    """The caller's end: starts the process, sends it one request at a time, and ends it."""

    def __init__(self, module: str) -> None:
        context: Any = multiprocessing.get_context("forkserver" if FORKS else "spawn")
        if FORKS:
            context.set_forkserver_preload([module])
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        self._ours, theirs = context.Pipe()
        with _no_script():
            log = _Descriptor(self._log.fileno()) if FORKS else None
            self._process = context.Process(target=_serve, args=(theirs, log), daemon=True)
            self._process.start()
        theirs.close()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def ask(self, kind: str, target: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            self._ours.send((kind, target, arguments, options))
            verdict, result = self._receive()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            self._process.join()
            hint = f"it is damaged, or needs more memory than {memory_limit() >> 20} MiB"
            raise RuntimeCrashError("a runtime crashed on this file", why=self._death(), hint=hint) from None
        if verdict == "returned":
            return result
        raise result

    def _receive(self) -> tuple[str, Any]:
        while True:
            if not self._ours.poll(PATIENCE):
                raise RuntimeCrashError(
                    "a runtime got stuck on this file",
                    why=f"no sign of life for {PATIENCE:.0f} s",
                    hint="it is damaged, or too large for this machine",
                )
            verdict, result = self._ours.recv()
            if verdict != "alive":
                return verdict, result

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()
        self._log.close()

    def _death(self) -> str:
        status = self._process.exitcode
        ended = f"ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4096))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"{ended}, after saying: {lines[-1].strip()[:200]}" if lines else ended


class _Descriptor:
    """A file descriptor on its way into a process that is being started."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _detach, (reduction.DupFd(self._number),)


def _detach(sent: Any) -> int:
    return int(sent.detach())


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """A process started meanwhile does not begin with the caller's script, which may not expect to be run again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _serve(pipe: Connection, log: int | None) -> None:
    """Answer requests until the caller is gone."""
    global _pipe
    _wall_in(log)
    held: Any = None
    while True:
        _pipe = None
        try:
            kind, target, arguments, options = pipe.recv()
        except EOFError:
            return
        _pipe = pipe
        try:
            function = getattr(held, target) if kind == "call" else target
            result = function(*arguments, **options)
            if kind == "make":
                held, result = result, None
            answer = ("returned", result)
        except Exception as error:
            answer = ("raised", _portable(error))
        pipe.send(answer)


def _portable(error: Exception) -> Exception:
    """`error`, or what it says if it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  what was just pickled here
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _wall_in(log: int | None) -> None:
    """Take from this process what untrusted files must not reach."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY) if log is None else log, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller hears Ctrl-C too, and ends this process
    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": LARGEST_FILE, "RLIMIT_AS": memory_limit() + _mapped_bytes()}
    for name, value in limits.items() if resource is not None else ():
        with contextlib.suppress(OSError, ValueError, AttributeError):  # not on this system, or already lower
            _, most = resource.getrlimit(getattr(resource, name))
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(getattr(resource, name), (value, most))
    # The server that forked this process ends with the caller, unless somebody else holds this pipe, as every process
    # it forks does; this one ends with the server.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, AttributeError):  # Linux alone
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, this process goes first


def _mapped_bytes() -> int:
    """Bytes of address space in use already, most of it shared libraries."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 32
