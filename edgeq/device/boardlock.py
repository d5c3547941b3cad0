"""A lock on the board itself, which keeps off those who do not share our leases: another team, CI, another name for it.

It is a `flock` on a folder that every user of the board can open. A shell on the board holds it while our connection
lives, so it ends however we end. A lease by hand is held by a `sleep` there, which counts its time by the board's own
clock. Phones have no place for it: their lock is on the machine that their cable is plugged into.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from edgeq.errors import DeviceBusyError, UnreachableError, printable

__all__ = ["BoardLock", "lock_board", "lock_script"]

QUICK = 30.0
"""Seconds within which a board says whether its lock is free."""

LONGEST_LINE = 1000
"""Bytes of what a holder wrote about itself that are read."""

FOLDER = "${EDGEQ_BOARD_LOCK:-/tmp/edgeq-board%s}"

# The folder belongs to everybody, so nothing that stands in it is trusted: a process is ended only where its note has
# the token of a lease that is known to be over. `sleep` and `read` are the last of a holder: its end frees the lock.
_SCRIPT = """d="{folder}"; say() {{ printf '{mark} %s\\n' "$1"; }}
note() {{ rm -f "$d/holder"; ( umask 022; set -C; printf '%s\\n' {token} $1 {text} > "$d/holder" ) 2>/dev/null; }}
first() {{ head -c 1000 "$d/holder" 2>/dev/null | sed -n "$1p"; }}
command -v flock >/dev/null 2>&1 || {{ say 'none the board has no flock'; read -r l; exit 0; }}
( umask 0; mkdir "$d" ) 2>/dev/null
if [ -L "$d" ] || [ ! -r "$d" ]; then say "none $d cannot be used there"; read -r l; exit 0; fi
exec 9<"$d"
if ! flock -n 9; then
  if [ "$(first 1)" = {own} ]; then say held; read -r l; exit 0; fi
  if [ "$(first 1)" = {ended} ]; then
    p=$(first 2); case "$p" in ''|*[!0-9]*) ;; *) kill "$p" 2>/dev/null; sleep 1 ;; esac
  fi
  flock -n 9 || {{ say "busy $(first 3)"; {wait}; }}
fi
{hold}
"""

_SESSION = 'note $$; say held; read -r l; rm -f "$d/holder"'
_BY_HAND = "nohup sleep {seconds} </dev/null >/dev/null 2>&1 & note $!; say held; exit 0"


def lock_script(
    mark: str,
    token: str,
    text: str,
    *,
    place: str = "",
    own: str = "",
    ended: str = "",
    wait: bool = False,
    seconds: float = 0.0,
) -> str:
    """The shell script that takes the lock and holds it until its standard input ends, or for `seconds`.

    It prints `mark` and a word: ``held``, ``busy`` with what the holder wrote, or ``none`` and why there is no lock.
    `place` tells apart the boards of one machine. A lock that the lease `own` holds is used; what still holds it for
    the lease `ended`, which is over, is ended. `mark` is a word that no holder's note has.
    """
    words = {"token": shlex.quote(token), "text": shlex.quote(text), "seconds": max(1, round(seconds))}
    return _SCRIPT.format(
        folder=FOLDER % place,
        mark=mark,
        own=shlex.quote(own or mark),
        ended=shlex.quote(ended or mark),
        wait="flock 9" if wait else "exit 0",
        hold=(_BY_HAND if seconds else _SESSION).format(**words),
        **words,
    )


class BoardLock:
    """The lock, held by `process`, the connection to whoever holds it there. `missing` says why there is none."""

    def __init__(self, process: subprocess.Popen[bytes], missing: str = "") -> None:
        self._process, self.missing = process, missing

    @property
    def lost(self) -> bool:
        """Whether its connection has ended, and the lock with it."""
        return self._process.poll() is not None

    def release(self) -> None:
        """Let go of it."""
        _end(self._process)


def lock_board(
    command: Callable[[str], Sequence[str] | None],
    device: str,
    token: str,
    text: str,
    *,
    place: str = "",
    own: str = "",
    ended: str = "",
    seconds: float = 0.0,
    patience: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> BoardLock:
    """Take the lock of `device`; `command` makes the words that run a script where its lock is.

    Waits `patience` seconds for another holder; a holder with `seconds` goes on without us. Raises `DeviceBusyError`,
    `UnreachableError`.
    """
    mark, until = f"edgeq-{secrets.token_hex(8)}", time.monotonic() + patience
    script = lock_script(mark, token, text, place=place, own=own, ended=ended, wait=patience > 0, seconds=seconds)
    process = subprocess.Popen(
        command(script) or (),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        state, rest = _answer(process, mark, QUICK, device)
        if state == "busy" and patience > 0:
            say(f"waiting for {device}: {_holder(rest)}")
            with contextlib.suppress(TimeoutError):
                state, rest = _answer(process, mark, until - time.monotonic(), device)
        if state == "busy":
            raise DeviceBusyError(
                f"{device} is in use",
                why=_holder(rest),
                hint="wait with --wait 10m" if patience == 0 else "wait longer, or ask the holder to release it",
            )
    except TimeoutError as error:
        _end(process)
        raise UnreachableError("the device did not answer in time", where=device, hint="try again") from error
    except BaseException:
        _end(process)
        raise
    return BoardLock(process, rest if state == "none" else "")


def _holder(text: str) -> str:
    return printable(text) or "another program holds the lock on the board"


def _answer(process: subprocess.Popen[bytes], mark: str, seconds: float, device: str) -> tuple[str, str]:
    """The next thing that the script says: its word, and the rest of that line. Raises `TimeoutError`."""
    assert process.stdout is not None  # noqa: S101
    until = time.monotonic() + seconds
    while True:
        line = _line(process.stdout, until)
        if not line:
            raise UnreachableError(
                "the connection to the device is lost", where=device, hint="check its power and network, then run again"
            )
        said, _, words = line.decode(errors="replace").strip().partition(" ")
        if said == mark:
            state, _, rest = words.partition(" ")
            return state, rest[:LONGEST_LINE]


def _line(pipe: IO[bytes], until: float) -> bytes:
    """The next line, at most `LONGEST_LINE` bytes of it; nothing at the end. Raises `TimeoutError`."""
    line = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not line.endswith(b"\n") and len(line) < LONGEST_LINE:
            if not selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            piece = os.read(pipe.fileno(), 1)
            if not piece:
                break
            line += piece
    return bytes(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the script's standard input, by which it lets go, and wait for its end."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
