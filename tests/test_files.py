"""Whole or not at all: failures injected at every step, processes killed while they write."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq import files
from edgeq.errors import ArtifactError
from edgeq.files import replace_folder, stage_folder, write_atomic
from edgeq.products import BUILD, MARKER, Product

LOCK = '{"schema": 1, "model": {}}'
NETS = Product("a build", "build", frozenset({"a", "net.tflite", "net.onnx", MARKER}), {"plots": re.compile("[a-z]")})


def fill(staging: Path, **files: str) -> None:
    """A whole product: its lock, and `files` by stem."""
    (staging / MARKER).write_text(LOCK)
    for name, text in files.items():
        (staging / name.replace("_", ".")).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def age(path: Path) -> None:
    """As if it had been left there a minute ago."""
    past = time.time() - 60
    os.utime(path, (past, past))


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """The folder of an earlier build."""
    folder = tmp_path / "net-tflite-arm"
    folder.mkdir()
    (folder / MARKER).write_text(LOCK)
    (folder / "net.tflite").write_text("old")
    return folder


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_text_and_bytes_arrive_and_replace(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomic(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_an_artifact_error_and_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "net.tflite"
    path.write_text("old")
    monkeypatch.setattr(files.os, step, full_disk)
    with pytest.raises(ArtifactError, match=r"No space left on device.*free some space"):
        write_atomic(path, "new")
    assert content(tmp_path) == {"net.tflite": "old"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The write itself fails, as on a full disk, not a stand-in for it.
    real = Path.open
    monkeypatch.setattr(files.Path, "open", lambda self, mode: real(Path("/dev/full"), "wb"))
    with pytest.raises(ArtifactError, match="No space left"):
        write_atomic(tmp_path / "net.tflite", b"x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", "new")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="create the folder first"):
        write_atomic(tmp_path / "none" / "a", "x")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "build" / "net"
    with stage_folder(final, NETS) as staging:
        fill(staging, a="1")
        (staging / "plots").mkdir()
        (staging / "plots" / "b").write_text("2")
        assert not final.exists()
    assert content(final) == {MARKER: LOCK, "a": "1", "plots/b": "2"}
    assert os.listdir(final.parent) == ["net"]


def test_an_earlier_build_is_replaced_whole(built: Path) -> None:
    with stage_folder(built, NETS) as staging:
        fill(staging, net_onnx="new")
        assert content(built)["net.tflite"] == "old"
    assert content(built) == {MARKER: LOCK, "net.onnx": "new"}
    assert os.listdir(built.parent) == [built.name]


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-steps"])
def test_both_ways_of_swapping(built: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with stage_folder(built, NETS) as staging:
        fill(staging)
    assert content(built) == {MARKER: LOCK}
    assert os.listdir(built.parent) == [built.name]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_build_leaves_the_previous_one(built: Path, failure: type[BaseException]) -> None:
    before = content(built)

    def fail() -> None:
        with stage_folder(built, NETS) as staging:
            (staging / "half").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert content(built) == before
    assert os.listdir(built.parent) == [built.name]


def test_a_swap_that_fails_half_way_is_undone(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(built)
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    real = os.replace

    def second_fails(source: Path, target: Path) -> None:
        if str(source).endswith(".staging"):
            full_disk()
        real(source, target)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(ArtifactError, match="No space left"), stage_folder(built, NETS) as staging:
        fill(staging, net_onnx="new")
    assert content(built) == before
    assert os.listdir(built.parent) == [built.name]


def test_a_disk_that_turns_out_full_at_the_end(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(built)

    def filled() -> None:
        with stage_folder(built, NETS) as staging:
            fill(staging, net_onnx="new")
            monkeypatch.setattr(files.os, "fsync", full_disk)

    with pytest.raises(ArtifactError, match="No space left"):
        filled()
    assert content(built) == before


def test_a_disk_that_fills_up_while_something_else_writes(built: Path) -> None:
    before = content(built)
    with pytest.raises(ArtifactError, match=r"No space left.*free some space"), stage_folder(built, NETS):
        full_disk()
    assert content(built) == before
    assert os.listdir(built.parent) == [built.name]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_no_build_made_is_never_replaced(tmp_path: Path, kind: str) -> None:
    theirs = tmp_path / "photos"
    if kind == "folder":
        theirs.mkdir()
        (theirs / "holiday.jpg").write_text("dear")
    else:
        theirs.write_text("dear")
    said = r"holiday\.jpg in it is no part of a build" if kind == "folder" else "it is no folder"
    with pytest.raises(ArtifactError, match=rf"{said} \(choose another --output"), stage_folder(theirs, BUILD):
        pytest.fail("the build must not begin")
    (tmp_path / "staging").mkdir()
    with pytest.raises(ArtifactError, match=said):
        replace_folder(tmp_path / "staging", theirs, BUILD)
    assert (theirs / "holiday.jpg" if kind == "folder" else theirs).read_text() == "dear"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with stage_folder(tmp_path / "out", NETS) as staging:
        fill(staging, a="1")
    assert content(tmp_path / "out") == {MARKER: LOCK, "a": "1"}


def killed(code: str) -> None:
    """Run `code` in another process until it says it is ready, then kill it as the system does: no clean-up runs."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_a_killed_build_leaves_the_previous_one_and_the_next_cleans_up(built: Path) -> None:
    before = content(built)
    killed(
        f"""
import time
from edgeq.files import stage_folder
from tests.test_files import NETS
with stage_folder({str(built)!r}, NETS) as staging:
    (staging / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    )
    assert content(built) == before
    (leftover,) = (p for p in built.parent.iterdir() if p != built)
    age(leftover)
    with stage_folder(built, NETS) as staging:
        fill(staging)
        assert not leftover.exists()
    assert os.listdir(built.parent) == [built.name]


def test_a_build_killed_between_the_two_steps_is_brought_back(built: Path) -> None:
    before = content(built)
    killed(
        f"""
import os, time
from edgeq import files
files._exchange = lambda *_: False
real = os.replace
def replace(source, target):
    if str(source).endswith(".staging"):
        print("ready", flush=True)
        time.sleep(60)
    real(source, target)
files.os.replace = replace
from tests.test_files import NETS, fill
with files.stage_folder({str(built)!r}, NETS) as staging:
    fill(staging, net_onnx="new")
"""
    )
    assert not built.exists()
    with stage_folder(built, NETS) as staging:
        assert content(built) == before
        fill(staging, a="next")
    assert content(built) == {MARKER: LOCK, "a": "next"}


def test_a_living_writer_is_left_alone(built: Path) -> None:
    with stage_folder(built, NETS) as one:
        fill(one, a="one")
        age(one)
        with stage_folder(built, NETS) as other:
            assert one.is_dir()
            fill(other, a="other")
        assert content(built) == {MARKER: LOCK, "a": "other"}
    assert content(built) == {MARKER: LOCK, "a": "one"}


def test_leftover_files_of_a_killed_writer_are_removed_and_lookalikes_kept(tmp_path: Path) -> None:
    killed(
        f"""
import time
from edgeq import files
files.os.fsync = lambda _: (print("ready", flush=True), time.sleep(60))
files.write_atomic({str(tmp_path / "a")!r}, "half")
"""
    )
    (leftover,) = tmp_path.iterdir()
    lookalike = tmp_path / ".a.notes.partial"
    lookalike.write_text("mine")
    age(leftover)
    age(lookalike)
    write_atomic(tmp_path / "a", "whole")
    assert content(tmp_path) == {"a": "whole", ".a.notes.partial": "mine"}


def test_a_pipe_or_device_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="a device or pipe would be replaced"):
        write_atomic(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
