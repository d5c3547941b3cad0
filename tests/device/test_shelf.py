"""Several people and programs at one board over ssh: real processes, a real lock, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device import leases, transport
from edgeq.device.job import Pace, Setup, bench
from edgeq.device.leasefolder import LeaseFolder
from edgeq.device.open import lease, open_device
from edgeq.device.transports.local import LocalTransport
from edgeq.errors import ConfigError, DeviceBusyError, DeviceError
from tests.device.daemon import Phone
from tests.device.loopback import Board
from tests.device.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def holder(name: str, cache: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that tries to hold `name`, as a user whose cache is in `cache`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.device.holder", name, str(cache), *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def becomes_free(name: str, patience: float = 120) -> bool:
    with open_device(name, patience=patience) as device:
        return device.run(["true"], timeout=120).status == 0


def test_two_users_of_one_machine_share_the_store(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))
    monkeypatch.setattr(leases, "HEARTBEAT", 0.5)
    with open_device(board.host, why="timing mine"):
        with holder(board.host, tmp_path / "bob", "theirs") as other:
            assert "timing mine" in said(other)  # it looks whether the holder lives
            assert "is leased" in said(other)
            assert other.wait(120) == 4
        with holder(board.host, tmp_path / "bob", "theirs", "120") as other:
            assert said(other).startswith(f"waiting for {board.host}: ")
            shown = CliRunner().invoke(cli, ["device", "list", "--json"])
            (row,) = json.loads(shown.stdout)
            assert (row["device"], row["why"], row["until"]) == (board.host, "timing mine", None)
    shown = CliRunner().invoke(cli, ["device", "list"])
    assert shown.stdout.strip() == "no board is leased"


def test_a_stranger_who_does_not_share_the_store_meets_the_lock(board: Board, tmp_path: Path) -> None:
    with holder(board.host, tmp_path / "bob", "timing theirs") as other:
        assert said(other) == "held"
        with pytest.raises(DeviceBusyError, match=r"is in use: .*holds it: timing theirs"), open_device(board.host):
            pass
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait(120) == 0
    assert becomes_free(board.host, 0)


def test_a_stranger_waits_until_the_lock_is_free(board: Board, tmp_path: Path) -> None:
    with contextlib.ExitStack() as first:
        first.enter_context(open_device(board.host, why="timing mine"))
        with holder(board.host, tmp_path / "bob", "theirs", "120") as other:
            assert "timing mine" in said(other)
            first.close()
            assert said(other) == "held"


def test_a_killed_holder_frees_lock_and_lease(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))
    with holder(board.host, tmp_path / "bob", "theirs") as other:
        assert said(other) == "held"
        other.kill()
        other.wait()
    assert len(list((tmp_path / "store/leases").glob("*.json"))) == 1
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    store = LeaseFolder(tmp_path / "store/leases")
    with leases.Leases(store, "me", lambda: clock[0], sleep).take(board.host, "") as mine:
        assert mine.ended
    assert leases.SILENCE <= clock[0] < leases.SILENCE + 2
    assert becomes_free(board.host)


def test_a_board_that_leaves_while_it_is_held(board: Board) -> None:
    with open_device(board.host) as device:
        assert device.held.doubts() == []
        subprocess.run(["pkill", "-KILL", "-P", str(board.server.pid)], check=True)
        until = time.monotonic() + 120
        while not device.held.doubts() and time.monotonic() < until:
            time.sleep(0.05)
        assert device.held.doubts() == ["the lock on the board was lost meanwhile: others may have used it"]
        with pytest.raises(DeviceError, match="lost"):
            device.run(["true"], timeout=120)
    assert becomes_free(board.host)


def test_a_lease_by_hand(board: Board, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(cli, ["device", "lease", board.host, "--for", "30m", "--why", "looking at heat"])
    assert done.exit_code == 0, done.output
    assert becomes_free(board.host, 0)  # for its owner
    with holder(board.host, tmp_path / "bob", "theirs") as other:
        assert "looking at heat" in said(other)
        assert other.wait(120) == 4
    done = run(cli, ["device", "release", board.host])
    assert done.exit_code == 0, done.output
    with holder(board.host, tmp_path / "bob", "theirs") as other:
        assert said(other) == "held"
    again = run(cli, ["device", "release", board.host])
    assert again.exit_code == 2, again.output


def test_a_lease_by_hand_is_over_when_the_board_says_so(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))
    with open_device(board.host, reserve=1):
        pass
    (path,) = (tmp_path / "store/leases").glob("*.json")
    path.write_text(path.read_text().replace('"silence":1.0', '"silence":9999.0'))
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "bob")
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            assert becomes_free(board.host, 0)
            return
        except DeviceBusyError:
            time.sleep(0.2)
    raise AssertionError("the board did not free itself")


def test_only_its_holder_ends_a_lease_unless_forced(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))
    with open_device(board.host, reserve=600, why="mine"):
        pass
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "bob")
    refused = CliRunner().invoke(cli, ["device", "release", board.host])
    assert refused.exit_code == 4
    assert "mine" in refused.stderr
    assert CliRunner().invoke(cli, ["device", "release", board.host, "--force"]).exit_code == 0
    assert becomes_free(board.host, 0)


def test_a_block_inside_a_lease_shares_it(board: Board) -> None:
    with lease(board.host, why="a sweep") as held, open_device(board.host) as device:
        assert device.held is held
    with pytest.raises(DeviceBusyError), open_device(board.host), open_device(board.host):
        pass


def test_a_board_without_flock_is_leased_only(board: Board) -> None:
    login = board.config.parent / "login"
    login.write_text(login.read_text().replace(":$PATH", f":{board.shims}/few"))
    (board.shims / "few").mkdir()
    for name in ("sh", "mkdir", "cat", "rm", "find"):
        (board.shims / "few" / name).symlink_to(f"/bin/{name}")
    with open_device(board.host) as device:
        assert device.held.notes() == ["there is no lock on the board, only a lease: the board has no flock"]
        assert device.held.doubts() == []


def test_a_phone_is_locked_where_its_cable_is(phone: Phone, tmp_path: Path) -> None:
    name = f"adb:{phone.serial}"
    with holder(name, tmp_path / "bob", "timing theirs") as other:
        assert said(other) == "held"
        with pytest.raises(DeviceBusyError, match="timing theirs"), open_device(name):
            pass
        other.kill()
        other.wait()
    assert becomes_free(name)


def test_what_is_no_board_cannot_be_leased() -> None:
    done = CliRunner().invoke(cli, ["device", "lease", "local"])
    assert done.exit_code == 2


def test_a_holder_that_hangs_loses_lease_and_lock(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands, as after a power cut: whoever takes over its lease ends what still holds the lock."""
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))
    with holder(board.host, tmp_path / "bob", "theirs") as other:
        assert said(other) == "held"
        other.send_signal(signal.SIGSTOP)
        (path,) = (tmp_path / "store/leases").glob("*.json")
        path.write_text(path.read_text().replace('"silence":30.0', '"silence":1.0'))
        with open_device(board.host, patience=120) as device:
            assert device.held.lease is not None
            assert device.held.lease.ended
            assert device.held.doubts() == []


def test_a_lease_by_hand_is_renewed_and_used_again_after_its_time(board: Board) -> None:
    run = CliRunner().invoke
    for _ in range(2):
        assert run(cli, ["device", "lease", board.host, "--for", "1h"]).exit_code == 0
    assert run(cli, ["device", "lease", board.host, "--for", "1s"]).exit_code == 0
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with open_device(board.host) as device:
            assert device.held.lease is not None
            if not device.held.lease.borrowed:  # the board has said that its time is over
                break
        time.sleep(0.2)
    assert run(cli, ["device", "list"]).stdout.strip() == "no board is leased"


def test_times_are_doubted_where_the_lock_was_lost(board: Board, tmp_path: Path) -> None:
    artifact = tiny_model(tmp_path / "tiny-tflite")
    with open_device(board.host) as device:
        assert device.held.lock is not None
        device.held.lock.release()
        found = bench(device, artifact / "model.tflite", None, Setup("litert", "xnnpack"), Pace(1, 1, seconds=0.01))
    assert "the lock on the board was lost meanwhile: others may have used it" in found["doubts"]
    assert (found["valid"], found["latency"]["valid"]) == (False, False)


@pytest.mark.parametrize("value", ["s3://bucket", "gs://bucket/x"])
def test_a_store_without_folders_is_refused(board: Board, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", value)
    with pytest.raises(ConfigError, match="need a folder"), open_device(board.host):
        pass


def test_a_transport_without_a_place_for_a_lock_is_leased_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "store"))

    class Plain(LocalTransport):
        shared = True

    with Plain("plain", folder=tmp_path / "own") as device:
        assert device.held.notes() == [
            "there is no lock on the board, only a lease: its transport has no place for one"
        ]
    by_hand = Plain("plain", folder=tmp_path / "own")
    by_hand.reserve = 600
    with by_hand:
        pass
    with Plain("plain", folder=tmp_path / "own") as device:
        assert device.held.lease is not None
        assert device.held.lease.borrowed
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "bob")
    with pytest.raises(DeviceBusyError, match="until 20"), Plain("plain", folder=tmp_path / "own"):
        pass
