"""A device over the system's OpenSSH client, so `~/.ssh/config`, agents and jump hosts work as everywhere else.

One connection carries all commands. Host keys must be known, no password is ever asked for, and nothing is left behind:
the connection is a process of ours, not one that detaches.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import ClassVar

from edgeq.device.transport import LONGEST_ANSWER, QUICK, TRANSPORTS, Completed, ShellTransport, call
from edgeq.errors import DeviceError, UnknownDeviceError, UnreachableError
from edgeq.scratch import scratch

__all__ = ["SshTransport"]

CONNECT = 15.0
"""Seconds to open a connection, key exchange of a slow board included."""

LOST = 255
"""What the client exits with when the connection fails. Commands on the device are kept from using it."""

_TIED = """exec 3<&0
"$@" </dev/null 3<&- & work=$!
( read -r line <&3; kill $work ) >/dev/null 2>&1 & watch=$!
trap 'kill $work $watch' TERM
wait $work; status=$?
kill $watch 2>/dev/null
exit $status"""
"""Ends the connection's process when edgeq is gone, however it went: then the pipe on standard input ends."""

_REMEDIES = (
    ("Host key verification failed", "its host key is not known", "connect once by hand: ssh {host}"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its host key has changed", "find out why before trusting it"),
    ("Permission denied", "it does not accept your key", "ssh-copy-id {host}; edgeq handles no passwords"),
    ("Could not resolve", "its name cannot be resolved", "check the name: ssh {host}"),
    ("Connection refused", "nothing listens there", "start its SSH server: sudo systemctl start ssh"),
    ("timed out", "it does not answer", "check that it is on and in this network: ping {host}"),
    ("No route to host", "it cannot be reached", "check that it is on and in this network: ping {host}"),
)


@TRANSPORTS.register("ssh")
class SshTransport(ShellTransport):
    """A device reached as `ssh HOST` would. ``EDGEQ_SSH_CONFIG`` names a configuration file other than the user's."""

    shared = True
    forms: ClassVar = {"USER@HOST": "a board, over the system's ssh; also ssh:NAME with a name out of ~/.ssh/config"}

    @classmethod
    def matches(cls, name: str) -> bool:
        kind, _, rest = name.partition(":")
        return bool(rest) if kind == "ssh" else "@" in kind

    @classmethod
    def open(cls, name: str, *, runtime: str, patience: float) -> SshTransport:
        return cls(name.removeprefix("ssh:"), patience=patience)

    def __init__(self, host: str, *, patience: float = 0.0) -> None:
        super().__init__(host if "@" in host else f"ssh:{host}", patience=patience)  # as `--device` takes it
        if host.startswith("-") or any(sign.isspace() for sign in host) or not host:
            raise UnknownDeviceError(f"no device {host!r}", hint="user@host, as for ssh")
        self._host = host
        self._socket = ""

    def connect(self) -> None:
        """Open the one connection and wait until it stands."""
        folder = self._cleanup.enter_context(scratch())  # short: a socket's path has 100 characters
        self._socket = str(folder / "s")
        log = (folder / "log").open("w+b")
        self._cleanup.enter_context(log)
        try:
            master = subprocess.Popen(
                ["/bin/sh", "-c", _TIED, "ssh", *self._client(), "-M", "-N", "-T", self._host],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise UnreachableError("there is no /bin/sh here") from error
        self._cleanup.callback(_end, master)
        until = time.monotonic() + 2 * CONNECT
        while not os.path.exists(self._socket):
            if master.poll() is not None or time.monotonic() > until:
                log.seek(0)
                printed = log.read(1 << 20).decode(errors="replace")
                if master.poll() == 127:
                    raise UnreachableError("ssh is not installed here", hint="sudo apt-get install openssh-client")
                raise self._unreachable(printed)
            time.sleep(0.02)

    def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = QUICK, limit: int = LONGEST_ANSWER
    ) -> Completed:
        # The user's shell may be any; the command is for a POSIX one. 255 belongs to the client.
        guarded = f"( {command}\n); s=$?; [ $s -eq {LOST} ] && s=254; exit $s"
        done = call(self.lock_words(guarded), data=data, timeout=timeout, where=self.name, held=True, limit=limit)
        if done.status == LOST:
            raise self._unreachable(done.stderr)
        return done

    def lock_words(self, script: str) -> list[str]:
        # Without its connection a client would quietly open another; ProxyCommand=false lets it say so instead.
        alone = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"]
        return [*self._client(), *alone, "-T", self._host, "--", f"exec sh -c {_quote(script)}"]

    def _client(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": f"{CONNECT:.0f}",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlPath": self._socket,
            "LogLevel": "ERROR",
            "RemoteCommand": "none",
            "ForwardAgent": "no",
            "ForwardX11": "no",
        }
        config = os.environ.get("EDGEQ_SSH_CONFIG")
        return ["ssh", *(["-F", config] if config else [])] + [
            word for key, value in options.items() for word in ("-o", f"{key}={value}")
        ]

    def _unreachable(self, printed: str) -> DeviceError:
        for sign, why, hint in _REMEDIES:
            if sign.lower() in printed.lower():
                return UnreachableError(
                    "the device cannot be reached", where=self.name, why=why, hint=hint.format(host=self._host)
                )
        lines = [line for line in printed.splitlines() if line.strip()]
        return UnreachableError(
            "the connection to the device is lost",
            where=self.name,
            why=lines[-1].strip() if lines else "",
            hint="check its power and network, then run again: nothing half-written was left",
        )


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the master and what ties it to us: they are one process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
            break
    if process.stdin is not None:
        process.stdin.close()
