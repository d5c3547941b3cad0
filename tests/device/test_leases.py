"""Leases in a store that several machines share, with clocks of our own: who gets a board, and when a dead holder's."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgeq.device import leases as leasing
from edgeq.device.leasefolder import LeaseFolder
from edgeq.device.leases import HEARTBEAT, SILENCE, Lease, Leases
from edgeq.errors import ArtifactError, DeviceBusyError

BOARD = "pi@board"


class Clock:
    """Seconds from any moment; waiting lets them pass, and does `meanwhile` each time."""

    def __init__(self, start: float = 0.0) -> None:
        self.now, self.meanwhile = start, lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


def machine(folder: Path, owner: str, clock: Clock) -> Leases:
    return Leases(LeaseFolder(folder), owner, clock, clock.sleep)


def living(lease: Lease, clock: Clock) -> None:
    """The holder shows that it lives whenever the waiting side has waited for a heartbeat."""
    last = clock.now

    def meanwhile() -> None:
        nonlocal last
        if clock.now - last >= HEARTBEAT:
            last = clock.now
            lease.beat()

    clock.meanwhile = meanwhile


def test_a_free_board_is_leased_and_freed(tmp_path: Path) -> None:
    known = machine(tmp_path, "a", Clock())
    with known.take(BOARD, "timing\nresnet") as held:
        (record,) = known.records()
        assert (record.device, record.why, record.token) == (BOARD, "timing resnet", held.record.token)
    assert known.records() == []


def test_a_living_holder_is_not_disturbed(tmp_path: Path) -> None:
    with machine(tmp_path, "a", Clock()).take(BOARD, "timing resnet") as held:
        clock = Clock(1e6)
        living(held, clock)
        with pytest.raises(DeviceBusyError, match=r"pi@board is leased: .*holds it: timing resnet.*--wait") as caught:
            machine(tmp_path, "b", clock).take(BOARD, "")
        assert caught.value.exit_status == 4
        assert clock.now - 1e6 <= 2 * HEARTBEAT
        with pytest.raises(DeviceBusyError):
            machine(tmp_path, "b", clock).take(BOARD, "", patience=10 * SILENCE)
        assert not held.lost


@pytest.mark.parametrize("start", [0.0, -5e8, 5e8])
def test_a_dead_holder_loses_it_whatever_the_clocks_say(tmp_path: Path, start: float) -> None:
    machine(tmp_path, "a", Clock(1000)).take(BOARD, "")  # never kept alive, as after kill -9
    clock = Clock(start)
    lease = machine(tmp_path, "b", clock).take(BOARD, "")
    assert SILENCE <= clock.now - start < SILENCE + 2
    assert lease.ended
    assert lease.record.owner == "b"


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    known = machine(tmp_path / "file", "a", Clock())
    for use in (known.records, lambda: known.take(BOARD, "")):
        with pytest.raises(ArtifactError, match=r"leases of boards cannot be kept.*EDGEQ_CACHE"):
            use()


def test_one_of_two_who_wait_gets_it(tmp_path: Path) -> None:
    machine(tmp_path, "a", Clock()).take(BOARD, "")
    store = LeaseFolder(tmp_path)
    (key,) = store.keys()
    before = store.get(key)
    assert before is not None
    assert store.replace(key, b"b", before)
    assert not store.replace(key, b"c", before)
    assert not store.create(key, b"c")
    assert not store.delete(key, before)
    assert store.get(key) == b"b"


def test_a_holder_that_was_away_too_long_learns_that_others_have_it(tmp_path: Path) -> None:
    away, clock = Clock(), Clock()
    first = machine(tmp_path, "a", away).take(BOARD, "")
    assert not first.lost
    machine(tmp_path, "b", clock).take(BOARD, "")
    away.now += SILENCE + 1
    assert first.lost
    away.now = 0
    first.beat()
    assert first.lost


def test_a_dead_command_of_ones_own_does_not_stop_the_next(tmp_path: Path) -> None:
    clock = Clock()
    machine(tmp_path, "a", clock).take(BOARD, "")
    assert machine(tmp_path, "a", clock).take(BOARD, "").ended
    assert clock.now == 0


def test_what_was_leased_by_hand_is_used_by_its_owner_alone(tmp_path: Path) -> None:
    clock = Clock()
    known = machine(tmp_path, "a", clock)
    by_hand = known.take(BOARD, "looking at heat", by_hand=1800)
    with by_hand:
        pass
    with known.take(BOARD, "timing") as mine:
        assert mine.borrowed
        assert mine.record.token == by_hand.record.token
    with pytest.raises(DeviceBusyError, match=r"until 20.*UTC: looking at heat"):
        machine(tmp_path, "b", clock).take(BOARD, "")
    assert clock.now == 0
    assert machine(tmp_path, "b", clock).take(BOARD, "", over=lambda record: True).ended == by_hand.record.token


def test_a_lease_by_hand_ends_after_its_time_where_no_board_can_tell(tmp_path: Path) -> None:
    with machine(tmp_path, "a", Clock()).take(BOARD, "", by_hand=100):
        pass
    clock = Clock()
    assert machine(tmp_path, "b", clock).take(BOARD, "", patience=200).ended
    assert 100 <= clock.now < 102


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 99, b"[" * 4000, b'{"device": "' + b"x" * 9000 + b'"}'])
def test_a_damaged_lease_is_over_when_nobody_changes_it(tmp_path: Path, data: bytes) -> None:
    store, clock = LeaseFolder(tmp_path), Clock()
    known = machine(tmp_path, "b", clock)
    known.take(BOARD, "")
    (key,) = store.keys()
    (tmp_path / key).write_bytes(data[:4096])
    assert known.records() == []
    assert known.take(BOARD, "", patience=1).record.owner == "b"
    assert SILENCE <= clock.now < SILENCE + 2


def test_a_hostile_holder_does_not_steer_a_terminal(tmp_path: Path) -> None:
    clock = Clock()
    lease = machine(tmp_path, "a", clock).take(BOARD, "", by_hand=100)
    hostile = msgspec.structs.replace(lease.record, who="\x1b[2Jx", why="a\u202eb")
    key = leasing._key(BOARD)
    LeaseFolder(tmp_path).replace(key, msgspec.json.encode(hostile), msgspec.json.encode(lease.record))
    with pytest.raises(DeviceBusyError, match=r"\\x1b\[2Jx holds it.*a\\u202eb"):
        machine(tmp_path, "b", clock).take(BOARD, "")
