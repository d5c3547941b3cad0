"""Devices to test on: this machine, a real sshd on the loopback with keys of its own, a phone of ours behind the real
`adb` client, and an emulated Arm where one is.

The sshd's users' Python is what `python3` finds first on the path its forced command sets.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.device import transport
from edgeq.device.userland import Userland, find_userland
from edgeq.errors import DeviceError
from tests.device.daemon import Phone
from tests.device.handset import furnish

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Board:
    """A loopback SSH server. `home` is the home folder of whoever logs in, `shims` come first on the path there."""

    host: str
    home: Path
    shims: Path
    server: subprocess.Popen[bytes]

    @property
    def cache(self) -> Path:
        return self.home / ".cache/edgeq"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks and pushed files of tests stay in the test's folder, so that tests run side by side."""
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "locks")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(tmp_path / "device"))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board over ssh: real server, real client, keys made for this test alone."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no SSH server here: sudo apt-get install openssh-server openssh-client")
    folder = tmp_path / "ssh"
    home, shims = folder / "home", folder / "shims"
    for path in (home, shims):
        path.mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    _script(shims / "python3", f'exec {sys.executable} "$@"')
    # Everything the client asks for runs in an environment of our making, as on a board of its own.
    _script(
        folder / "login",
        f"export HOME={home} PATH={shims}:$PATH; unset EDGEQ_DEVICE_CACHE XDG_CACHE_HOME; cd; "
        'exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"',
    )
    port = _free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nForceCommand {folder}/login\nMaxStartups 100\n"
    )
    public = (folder / "host.pub").read_text().split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
    (folder / "config").write_text(
        f"Host board\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile /dev/null\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a server run by root drops its rights
    monkeypatch.setenv("EDGEQ_SSH_CONFIG", str(folder / "config"))
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        _await(port, server)
        yield Board("ssh:board", home, shims, server)
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An adb server of this test alone: a port, a home folder and a key of its own."""
    if shutil.which("adb") is None:
        pytest.skip("no adb here: sudo apt-get install adb")
    (tmp_path / "adb-home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "adb-home"))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(_free_port()))
    for name in ("ANDROID_SERIAL", "ADB_VENDOR_KEYS", "ADB_SERVER_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    yield
    subprocess.run(["adb", "kill-server"], capture_output=True, timeout=20)


@pytest.fixture
def phones(tmp_path: Path, adb_server: None) -> Iterator[Callable[[], Phone]]:
    """Makes phones, each connected to this test's adb server."""
    made: list[Phone] = []

    def connected() -> Phone:
        phone = furnish(tmp_path / f"phone{len(made)}")
        made.append(phone)
        subprocess.run(["adb", "connect", phone.serial], capture_output=True, timeout=20)
        return phone

    yield connected
    for phone in made:
        phone.close()


@pytest.fixture
def phone(phones: Callable[[], Phone]) -> Phone:
    return phones()


@pytest.fixture
def userland() -> Userland:
    try:
        return find_userland()
    except DeviceError as error:
        pytest.skip(f"no emulated Arm here: {error.hint}")


def arm_python(board: Board, userland: Userland, runtime: str | None) -> None:
    """Make `python3` on the board an emulated Cortex-A72's, with the wheels of `runtime` or with none."""
    paths = [str(userland.wheels(runtime))] if runtime else []
    settings = userland.environment("cortex-a72")
    given = " ".join(f"{key}={value}" for key, value in settings.items())
    stdlib = userland.root / "usr/lib/python3.11"
    path = ":".join(["${PYTHONPATH:-}", *paths, str(stdlib)])
    command = " ".join(userland.python("cortex-a72"))
    _script(board.shims / "python3", f'{given} PYTHONPATH="{path}" EDGEQ_PYTHON=\'["python3"]\' exec {command} "$@"')


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.skip("the SSH server does not start here: sudo apt-get install openssh-server")
