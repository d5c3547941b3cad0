"""Devices on this machine's loopback, with keys, ports and home folders of their own: a real sshd, and a phone of ours
behind the real `adb` client. Each is a context manager that leaves nothing running.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.device.daemon import Phone
from tests.device.handset import furnish

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class MissingError(Exception):
    """A program that is not installed here, with the line that installs it."""


@dataclass(frozen=True)
class Board:
    """A loopback SSH server. `home` is the home folder of whoever logs in, `shims` come first on the path there.

    `config` is what the client has to be given.
    """

    host: str
    home: Path
    shims: Path
    config: Path
    server: subprocess.Popen[bytes]

    @property
    def cache(self) -> Path:
        return self.home / ".cache/edgeq"


@contextlib.contextmanager
def board_at(folder: Path) -> Iterator[Board]:
    """A board over ssh: real server, real client, keys made for it alone. Its Python is this one."""
    if SSHD is None or shutil.which("ssh") is None:
        raise MissingError("no SSH server here: sudo apt-get install openssh-server openssh-client")
    home, shims = folder / "home", folder / "shims"
    for path in (home, shims):
        path.mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    executable(shims / "python3", f'exec {sys.executable} "$@"')
    # Everything the client asks for runs in an environment of our making, as on a board of its own.
    executable(
        folder / "login",
        f"export HOME={home} EDGEQ_BOARD_LOCK={folder}/lock PATH={shims}:$PATH; "
        "unset EDGEQ_DEVICE_CACHE XDG_CACHE_HOME; cd; "
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"',
    )
    port = _free_port()
    # HOME is set for the login shell too: a ~/.bashrc of whoever runs the tests would be read before every command.
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nSetEnv HOME={home}\nForceCommand {folder}/login\nMaxStartups 100\n"
    )
    public = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
    (folder / "config").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile /dev/null\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server run by root drops its rights
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        _await(port, server)
        yield Board("ssh:board", home, shims, folder / "config", server)
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def adb_environment(home: Path) -> Iterator[dict[str, str | None]]:
    """Environment variables (None: unset) that give adb a server, a port and a key of their own; it ends at the end."""
    if shutil.which("adb") is None:
        raise MissingError("no adb here: sudo apt-get install adb")
    home.mkdir(parents=True)
    settings: dict[str, str | None] = dict.fromkeys(("ANDROID_SERIAL", "ADB_VENDOR_KEYS", "ADB_SERVER_SOCKET"))
    port = _free_port()
    settings |= {"HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(port)}
    try:
        yield settings
    finally:
        given = os.environ | {key: value for key, value in settings.items() if value is not None}
        until = time.monotonic() + 120
        while _answers(port) and time.monotonic() < until:  # a server busy with a phone that left may miss the first
            subprocess.run(["adb", "kill-server"], env=given, capture_output=True, timeout=120)
            time.sleep(0.02)


def connected(root: Path, features: str = "shell_v2,cmd") -> Phone:
    """A phone whose disk is `root`, known to the adb server the environment names."""
    phone = furnish(root)
    phone.features = features
    subprocess.run(["adb", "connect", phone.serial], capture_output=True, timeout=120)
    return phone


def executable(path: Path, body: str) -> Path:
    """A shell script at `path`."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        if _answers(port):
            return
        time.sleep(0.05)
    raise MissingError("the SSH server does not start here: sudo apt-get install openssh-server")
