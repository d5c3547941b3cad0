"""A board over ssh that is full, cut off, badly set up or of another kind: one line, and the next run works."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edgeq.device.job import probe
from edgeq.device.open import open_device
from edgeq.device.runners import python
from edgeq.errors import DeviceError
from tests.device.loopback import Board, executable


def _recovers(board: Board) -> None:
    """Another command on the same board finds nothing of the trouble before it."""
    with open_device(board.host) as device:
        assert device.pull(device.push(b"x" * 1000, "model.tflite")) == b"x" * 1000
    assert [path.name for path in (board.cache / "files").rglob("*") if path.is_file()] == ["model.tflite"]
    assert list((board.cache / "jobs").iterdir()) == []


def _cut_when(board: Board, sign: Path) -> threading.Thread:
    """Kill this test's own server's connections, and nobody else's, once `sign` is there."""

    def cut() -> None:
        until = time.monotonic() + 120
        while not sign.exists() and time.monotonic() < until:
            time.sleep(0.05)
        subprocess.run(["pkill", "-KILL", "-P", str(board.server.pid)])

    thread = threading.Thread(target=cut)
    thread.start()
    return thread


def test_a_full_board(board: Board) -> None:
    cat = executable(board.shims / "cat", "exec /bin/cat > /dev/full")
    full = pytest.raises(DeviceError, match=r"No space left.*free some space there")
    with open_device(board.host) as device, full:
        device.push(b"x" * 1000, "model.tflite")
    cat.unlink()
    _recovers(board)


def test_a_board_whose_folder_cannot_be_made(board: Board) -> None:
    (board.home / ".cache").write_text("a file, not a folder")
    with open_device(board.host) as device, pytest.raises(DeviceError, match=r"cannot be written.*make ~/\.cache"):
        device.push(b"x", "model.tflite")
    (board.home / ".cache").unlink()
    _recovers(board)


def test_a_connection_lost_while_pushing(board: Board, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    cat = executable(board.shims / "cat", f"head -c 1000; : > {begun}; exec /bin/cat")
    with open_device(board.host) as device:
        assert device.root
        thread = _cut_when(board, begun)
        with pytest.raises(DeviceError, match="connection to the device is lost") as caught:
            device.push(os.urandom(30_000_000), "model.tflite")
        thread.join()
    assert caught.value.exit_status == 4
    cat.unlink()
    until = time.monotonic() + 120  # what runs there learns of it a moment later
    while list((board.cache / "files").rglob("*.part")) and time.monotonic() < until:
        time.sleep(0.05)
    _recovers(board)


def test_a_greeting_on_standard_output(board: Board) -> None:
    """A line in ~/.bashrc is printed before whatever any command says."""
    login = Path(os.environ["EDGEQ_SSH_CONFIG"]).parent / "login"
    login.write_text(login.read_text().replace("#!/bin/sh\n", "#!/bin/sh\necho Welcome; echo 12; echo /tmp\n"))
    with open_device(board.host) as device:
        assert probe(device)["machine"]["cores"]
        assert device.pull(device.push(b"x" * 1000, "model.tflite")) == b"x" * 1000


def test_an_agent_killed_on_the_board(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    agent = tmp_path / "slow_agent.py"
    agent.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")

    def kill() -> None:
        until = time.monotonic() + 120
        while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(int(pid.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    with monkeypatch.context() as patch:
        patch.setattr(python, "pack_agent", agent.read_bytes)
        thread.start()
        with open_device(board.host) as device, pytest.raises(DeviceError, match="killed on the device"):
            probe(device)
        thread.join()
    with open_device(board.host) as device:
        assert probe(device)["machine"]["cores"]


def test_a_python_of_another_processor(board: Board) -> None:
    python = board.shims / "python3"
    kept = python.read_text()
    python.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xf3\x00" + bytes(100))
    said = pytest.raises(DeviceError, match=r"Python does not start.*no program for this processor.*apt-get")
    with open_device(board.host) as device, said:
        probe(device)
    python.write_text(kept)
    with open_device(board.host) as device:
        assert probe(device)["machine"]["cores"]


def test_a_board_without_python(board: Board) -> None:
    executable(board.shims / "python3", "echo 'sh: 1: python3: not found' >&2; exit 127")
    with open_device(board.host) as device, pytest.raises(DeviceError, match=r"no Python on the device.*apt-get"):
        probe(device)


def test_a_board_that_is_slower_than_the_timeout(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = tmp_path / "slow_agent.py"
    agent.write_text("import time\ntime.sleep(60)\n")
    with monkeypatch.context() as patch:
        patch.setattr(python, "pack_agent", agent.read_bytes)
        with open_device(board.host) as device, pytest.raises(DeviceError, match=r"did not answer in time.*--timeout"):
            probe(device, timeout=1)
    with open_device(board.host) as device:
        assert probe(device)["machine"]["cores"]


def test_two_commands_on_one_board(board: Board) -> None:
    with open_device(board.host), pytest.raises(DeviceError, match="is busy"), open_device(board.host):
        pass
    with open_device(board.host, patience=5) as device:
        assert device.run(["true"], timeout=120).status == 0
