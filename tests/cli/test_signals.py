"""A command that is told to end leaves nothing running and nothing behind, whichever way it is told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.scratch import PREFIX, scratch
from tests.device.loopback import Board, MissingError, board_at, executable


def eventually(holds: Callable[[], object]) -> bool:
    until = time.monotonic() + 30
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(holds())


def running(word: str) -> list[str]:
    """Command lines of processes, zombies aside, that hold `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and str(os.getpid()) != path.name:
            found.append(line)
    return found


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """Temporary folders of this test alone, for the command and for us; and its name in every process' arguments."""
    folder = Path(tempfile.mkdtemp(prefix="edgeq-test-"))  # short: a socket lies below
    yield folder  # type: ignore[misc]
    shutil.rmtree(folder)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_command_on_a_board_is_ended(number: signal.Signals, status: int, tmp_path: Path, busy: Path) -> None:
    try:
        with board_at(tmp_path / "ssh") as board:
            _ended(board, number, status, busy)
    except MissingError as missing:
        pytest.skip(str(missing))


def _ended(board: Board, number: signal.Signals, status: int, busy: Path) -> None:
    begun = busy.parent / f"{busy.name}.begun"
    executable(
        board.shims / "python3", f": > {begun}; exec cat - {begun}"
    )  # as the agent does, it ends with its standard input
    cache = f"{busy}.cache"
    given = os.environ | {"EDGEQ_SSH_CONFIG": str(board.config), "TMPDIR": str(busy), "XDG_CACHE_HOME": cache}
    command = subprocess.Popen(
        [sys.executable, "-m", "edgeq", "device", "probe", board.host],
        env=given,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(begun.exists)
        assert running(str(busy))
        command.send_signal(number)
        assert command.wait(60) == status
        assert eventually(lambda: not running(str(busy)))
        if number != signal.SIGKILL:
            assert list(busy.glob(f"{PREFIX}*")) == []
            assert list((board.cache / "jobs").iterdir()) == []
        else:
            again = "from edgeq.scratch import scratch\nwith scratch(): pass"
            subprocess.run([sys.executable, "-c", again], env=given, check=True, timeout=120)
            assert list(busy.glob(f"{PREFIX}*")) == []
    finally:
        command.kill()
        command.wait()
        begun.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", cache])


def test_what_somebody_uses_or_made_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}notes").mkdir()
    (tmp_path / f"{PREFIX}dead").mkdir()
    (tmp_path / f"{PREFIX}dead" / "lock").touch()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "precious")
    with scratch() as used, scratch() as other:
        assert used.exists()
        assert other.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}link", f"{PREFIX}notes", "precious"]
    assert (tmp_path / "precious" / "lock").exists()


def test_whoever_ignores_a_hangup_keeps_ignoring_it() -> None:
    script = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from edgeq.cli.shell import end_in_order; end_in_order()\n"
        "signal.raise_signal(signal.SIGHUP); signal.raise_signal(signal.SIGTERM)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 143
