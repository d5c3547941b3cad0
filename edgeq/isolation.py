"""A process of its own for native code that is handed a stranger's file: runtimes abort where Python would raise."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, TypeVar

from edgeq.errors import ArtifactError

__all__ = ["isolated"]

T = TypeVar("T")


def isolated(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What ``work(*arguments, **options)`` returns or raises, computed in a process forked from a fresh one.

    All of it must pickle. Raises `ArtifactError` where the process dies instead.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, work, arguments, options))
    with _no_script():
        process.start()
    theirs.close()
    try:
        returned, result = ours.recv()
    except EOFError:
        process.join()
        raise ArtifactError(
            "a runtime crashed on this file", why=_death(process.exitcode), hint="it is damaged: make it again"
        ) from None
    except BaseException:  # Ctrl-C above all: nobody waits for the answer any more
        process.kill()
        raise
    finally:
        process.join()
        ours.close()
    if returned:
        return result  # type: ignore[no-any-return]
    raise result


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """A process started meanwhile does not begin with the caller's script, which may not expect to be run again."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _answer(pipe: Connection, work: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    try:
        pipe.send((True, work(*arguments, **options)))
    except Exception as error:
        pipe.send((False, error))


def _death(status: int | None) -> str:
    return f"ended by {signal.Signals(-status).name}" if status and status < 0 else f"ended with status {status}"
