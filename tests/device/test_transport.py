"""What every transport promises, held by each of them; then what each does when things go wrong."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.device.open import open_device
from edgeq.device.transport import ShellTransport
from edgeq.device.transports.local import LocalTransport
from edgeq.device.transports.ssh import SshTransport
from edgeq.errors import DeviceError
from tests.device.loopback import Board

AWKWARD = ["plain", "two words", "it's", 'say "hi"', "$HOME", "`id`", "a;b&c|d", "new\nline", "*", "-n", "ü"]


@pytest.fixture(params=["local", "ssh", "adb"])
def device(request: pytest.FixtureRequest) -> Iterator[ShellTransport]:
    transport: ShellTransport
    if request.param == "ssh":
        request.getfixturevalue("board")
        transport = open_device("ssh:board")
    elif request.param == "adb":
        transport = open_device(f"adb:{request.getfixturevalue('phone').serial}")
    else:
        transport = LocalTransport()
    with transport:
        yield transport


def test_words_arrive_as_they_are(device: ShellTransport) -> None:
    done = device.run(["printf", "%s\\0", *AWKWARD], timeout=120)
    assert done.stdout.decode().split("\0")[:-1] == AWKWARD


def test_exit_statuses_are_the_commands(device: ShellTransport) -> None:
    assert [device.run(["sh", "-c", f"exit {status}"], timeout=120).status for status in (0, 1, 127, 254)] == [
        0,
        1,
        127,
        254,
    ]
    # 255 is what ssh says when the connection is lost; a command that says it is not a lost connection.
    assert device.run(["sh", "-c", "exit 255"], timeout=120).status in (254, 255)


def test_bytes_go_there_and_come_back(device: ShellTransport, tmp_path: Path) -> None:
    data = os.urandom(300_000) + bytes(range(256))
    path = device.push(data, "some file.bin")
    assert device.pull(path, tmp_path / "back") == data
    assert (tmp_path / "back").read_bytes() == data
    assert device.pull(device.push(b"", "empty")) == b""


def test_what_is_there_is_not_sent_again(device: ShellTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    path = device.push(b"weights", "model.tflite")
    sent: list[bytes] = []
    execute = device.execute

    def counted(command: str, *, data: bytes | None = None, timeout: float = 30.0) -> object:
        if data is not None:
            sent.append(data)
        return execute(command, data=data, timeout=timeout)

    monkeypatch.setattr(device, "execute", counted)
    assert device.push(b"weights", "model.tflite") == path
    assert sent == []
    assert device.push(b"others!", "model.tflite") != path
    assert sent == [b"others!"]


def test_a_job_leaves_nothing(device: ShellTransport) -> None:
    device.execute(f"echo > '{device.job}/result'")
    jobs = Path(device.root) / "jobs"
    assert len(list(jobs.iterdir())) == 1
    device.__exit__(None, None, None)
    assert list(jobs.iterdir()) == []


def test_files_nobody_uses_any_more_go(device: ShellTransport) -> None:
    """A batch of images is pushed once and never asked for again; a runtime is asked for every day."""
    asked_for, forgotten = (Path(device.push(data, "batch.npy")) for data in (b"one", b"two"))
    long_ago = time.time() - 40 * 86400
    for path in (asked_for, forgotten):
        os.utime(path, (long_ago, long_ago))
        os.utime(path.parent, (long_ago, long_ago))
    device.push(b"one", "batch.npy")
    device._root = ""  # as a new command finds it
    assert device.root
    assert asked_for.exists()
    assert not forgotten.parent.exists()


def test_only_names_that_edgeq_makes_are_removed(own_cache: Path) -> None:
    """`EDGEQ_DEVICE_CACHE` may name a folder that is full of other things, with the names edgeq uses itself."""
    theirs = [
        own_cache / "device" / name
        for name in (
            "photo.jpg",
            "files/photo.jpg",
            "files/album/photo.jpg",
            "jobs/thesis/text.md",
            "files/.a.part",
            "edgeq/files/photo.jpg",
            "edgeq/files/album/photo.jpg",
            "edgeq/files/album/.0123456789ab.party",
            "edgeq/jobs/thesis/text.md",
            "edgeq/jobs/0123456789abcdef",
        )
    ]
    ours = [own_cache / "device/edgeq" / name for name in ("jobs/fedcba9876543210/x", f"files/{'a' * 64}/model.tflite")]
    part = own_cache / "device/edgeq/files" / ("b" * 64) / ".0123456789ab.part"
    for path in [*theirs, *ours, part]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    long_ago = time.time() - 40 * 86400
    for path in sorted((own_cache / "device").rglob("*"), reverse=True):
        os.utime(path, (long_ago, long_ago))
    os.utime(part.parent)  # its file is in use, what was cut short is not
    with LocalTransport() as device:
        assert device.root == str(own_cache / "device/edgeq")
    assert [path for path in theirs if not path.exists()] == []
    assert [path for path in [*ours, part] if path.exists()] == []


def test_a_missing_file_is_an_error(device: ShellTransport) -> None:
    with pytest.raises(DeviceError, match="could not be fetched"):
        device.pull(f"{device.root}/nothing")


def test_a_slow_command_ends_in_time(device: ShellTransport) -> None:
    started = time.monotonic()
    with pytest.raises(DeviceError, match="did not answer in time"):
        device.run(["sleep", "600"], timeout=0.5)
    assert time.monotonic() - started < 300  # it does not wait for the command, however busy the machine is
    assert device.run(["echo", "again"], timeout=120).stdout == b"again\n"


def test_a_push_cut_short_leaves_nothing(device: ShellTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = device.execute

    def cut(command: str, *, data: bytes | None = None, timeout: float = 30.0) -> object:
        return execute(command, data=data[: len(data) // 2] if data else None, timeout=timeout)

    with monkeypatch.context() as patch:
        patch.setattr(device, "execute", cut)
        with pytest.raises(DeviceError, match="cut short"):
            device.push(b"x" * 1000, "model.tflite")
    assert [path for path in (Path(device.root) / "files").rglob("*") if path.is_file()] == []
    assert device.pull(device.push(b"x" * 1000, "model.tflite")) == b"x" * 1000


def test_names_cannot_leave_the_folder(device: ShellTransport) -> None:
    for name in ("../x", "/etc/x", ".hidden", ""):
        with pytest.raises(DeviceError, match="file name"):
            device.push(b"", name)


def test_a_full_device_says_so(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalTransport() as device:
        assert device.root
        execute = device.execute

        def full(command: str, *, data: bytes | None = None, timeout: float = 30.0) -> object:
            # /dev/full takes the bytes' place: the device's own cat then says what a full disk makes it say.
            return execute(command.replace("cat > ", "cat > /dev/full && : > ", 1), data=data, timeout=timeout)

        monkeypatch.setattr(device, "execute", full)
        with pytest.raises(DeviceError, match=r"No space left.*free some space there"):
            device.push(b"x" * 1000, "model.tflite")
    assert [path for path in (own_cache / "device/edgeq/files").rglob("*") if path.is_file()] == []


def test_an_unwritable_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(tmp_path / "taken/edgeq"))
    with LocalTransport() as device, pytest.raises(DeviceError, match=r"cannot be written.*EDGEQ_DEVICE_CACHE"):
        device.push(b"x", "model.tflite")


def _hold(ready: multiprocessing.synchronize.Event, over: multiprocessing.synchronize.Event) -> None:
    with LocalTransport():
        ready.set()
        over.wait(20)


def test_two_processes_do_not_share_a_device() -> None:
    ready, over = multiprocessing.Event(), multiprocessing.Event()
    other = multiprocessing.get_context("fork").Process(target=_hold, args=(ready, over))
    other.start()
    try:
        assert ready.wait(10)
        with pytest.raises(DeviceError, match="local is busy"), LocalTransport():
            pass
        other.kill()  # its lock dies with it, however it dies
        other.join()
        with LocalTransport(patience=5):
            pass
    finally:
        other.kill()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UserKnownHostsFile /dev/null", "host key is not known"),
        ("IdentityFile /nonexistent", "does not accept your key"),
        ("Port 1", "nothing listens there"),
    ],
)
def test_an_unreachable_board_has_a_remedy(
    board: Board, change: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = change.split()[0]
    lines = Path(os.environ["EDGEQ_SSH_CONFIG"]).read_text().splitlines()
    changed = tmp_path / "changed"
    changed.write_text("\n".join(f" {change}" if line.split()[0] == key else line for line in lines) + "\n")
    monkeypatch.setenv("EDGEQ_SSH_CONFIG", str(changed))
    with pytest.raises(DeviceError, match=why) as caught, SshTransport("board"):
        pass
    assert caught.value.hint
    assert caught.value.exit_status == 4


def test_a_connection_lost_mid_run_is_named_and_the_next_run_works(board: Board) -> None:
    with SshTransport("board") as device:
        assert device.root
        # Only the children of the server this test has started.
        cut = threading.Timer(1, subprocess.run, [["pkill", "-KILL", "-P", str(board.server.pid)]])
        cut.start()
        with pytest.raises(DeviceError, match="connection to the device is lost"):
            device.run(["sleep", "60"], timeout=120)
        cut.join()
        with pytest.raises(DeviceError, match="connection to the device is lost"):
            device.run(["echo", "no second connection"], timeout=120)
    with SshTransport("board") as device:
        assert device.run(["echo", "back"], timeout=120).stdout == b"back\n"


def test_nothing_outlives_the_connection(board: Board, tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(int(os.environ.get("EDGEQ_SOAK", "3"))):
        data = os.urandom(1000)
        with SshTransport("board") as device:
            result = f"{device.job}/result"
            assert device.run(["cp", device.push(data, "x"), result], timeout=120).status == 0
            assert device.pull(result) == data
    assert list((board.cache / "jobs").iterdir()) == []
    assert not list((board.cache / "files").rglob("*.part"))
    assert set(os.listdir("/proc/self/fd")) == before
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert os.environ["EDGEQ_SSH_CONFIG"] not in [word for line in left.splitlines() for word in line.split()]


def test_options_are_no_hosts() -> None:
    with pytest.raises(DeviceError, match="user@host"):
        SshTransport("-oProxyCommand=touch /tmp/x")
