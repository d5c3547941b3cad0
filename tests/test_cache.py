"""The stage cache: equal inputs are found, damaged results are made anew, a failed stage leaves nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from edgeq.cache import StageCache, contents
from edgeq.errors import ArtifactError
from edgeq.fingerprint import file_sha256
from edgeq.progress import Silent
from edgeq.sealed import seal_json


def stage(cache, parts, calls):
    def work(inputs, space):
        calls.append(inputs)
        (space.folder / "made.txt").write_text("made")
        return {"answer": 42}

    return cache.run("synthesize", parts, work)


def test_equal_parts_run_once(tmp_path):
    calls = []
    first = stage(StageCache(tmp_path, Silent()), {"seed": 0}, calls)
    second = stage(StageCache(tmp_path, Silent()), {"seed": 0}, calls)
    other = stage(StageCache(tmp_path, Silent()), {"seed": 1}, calls)
    assert (first.cached, second.cached, other.cached) == (False, True, False)
    assert second.facts == {"answer": 42}
    assert second.files["made.txt"].read_text() == "made"
    assert len(calls) == 2


def test_forced_stage_runs_again(tmp_path):
    calls = []
    stage(StageCache(tmp_path, Silent()), {}, calls)
    stage(StageCache(tmp_path, Silent(), frozenset({"synthesize"})), {}, calls)
    assert len(calls) == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("broken")])
def test_failed_stage_leaves_no_entry(tmp_path, failure):
    def work(_, space):
        (space.folder / "half.txt").write_text("half")
        raise failure

    cache = StageCache(tmp_path, Silent())
    with pytest.raises(type(failure)):
        cache.run("synthesize", {}, work)
    assert list(tmp_path.iterdir()) == []
    assert not stage(cache, {}, []).cached


def test_two_builds_at_once_keep_the_first_result(tmp_path):
    cache = StageCache(tmp_path, Silent())

    def work(_, space):
        stage(cache, {}, [])  # another build finishes the same stage meanwhile, and holds on to its files
        (space.folder / "made.txt").write_text("late")
        return {"answer": 43}

    result = cache.run("synthesize", {}, work)
    assert (result.facts, result.files["made.txt"].read_text()) == ({"answer": 42}, "made")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    entry = next(iter(stage(StageCache(tmp_path, Silent()), {}, []).files.values())).parent
    leftover = tmp_path / f".{entry.name}.edgeq-0123456789ab.staging"
    entry.rename(leftover)
    os.utime(leftover, (1, 1))
    assert not stage(StageCache(tmp_path, Silent()), {}, []).cached
    assert not leftover.exists()


def test_full_disk_is_a_clear_error(tmp_path):
    def work(_, space):
        raise OSError(errno.ENOSPC, "No space left on device", str(space.folder / "made.txt"))

    with pytest.raises(ArtifactError, match="No space left on device"):
        StageCache(tmp_path, Silent()).run("write", {}, work)
    assert list(tmp_path.iterdir()) == []


class Notes(Silent):
    """Progress that remembers the lines it was told."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def crafted(entry, /, **changes):
    """A facts.json with the right hash that says something else."""
    path = entry / "facts.json"
    path.write_text(seal_json({**json.loads(path.read_text())["body"], **changes}))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def folder_for_file(path):
    path.unlink()
    path.mkdir()


def link_for_file(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def link_for_entry(entry):
    entry.rename(entry.with_name("moved"))
    entry.symlink_to(entry.with_name("moved"))


def file_for_entry(entry):
    shutil.rmtree(entry)
    entry.write_text("")


def fifo(path):
    path.unlink()
    os.mkfifo(path)


DAMAGE = {
    "file truncated": lambda entry: (entry / "made.txt").write_text("mad"),
    "file longer": lambda entry: (entry / "made.txt").write_text("made "),
    "bit of a file flipped": lambda entry: flip(entry / "made.txt"),
    "bit of the facts flipped": lambda entry: flip(entry / "facts.json"),
    "facts truncated": lambda entry: (entry / "facts.json").write_text("{"),
    "facts empty": lambda entry: (entry / "facts.json").write_text(""),
    "facts missing": lambda entry: (entry / "facts.json").unlink(),
    "facts a fifo": lambda entry: fifo(entry / "facts.json"),
    "facts nested": lambda entry: (entry / "facts.json").write_text("[" * 100_000),
    "facts no object": lambda entry: (entry / "facts.json").write_text(seal_json([1, 2])),
    "facts with NaN": lambda entry: (entry / "facts.json").write_text('{"body": NaN, "sha256": "0"}'),
    "facts a list": lambda entry: crafted(entry, facts=[]),
    "seconds huge": lambda entry: crafted(entry, seconds=10**400),
    "seconds text": lambda entry: crafted(entry, seconds="1"),
    "seconds negative": lambda entry: crafted(entry, seconds=-1.0),
    "files a list": lambda entry: crafted(entry, files=["made.txt"]),
    "files without hashes": lambda entry: crafted(entry, files={"made.txt": None}),
    "of another stage": lambda entry: crafted(entry, entry="calibrate-000000000000000000000000"),
    "file missing": lambda entry: (entry / "made.txt").unlink(),
    "file more": lambda entry: (entry / "more.txt").write_text(""),
    "folder more": lambda entry: (entry / "more").mkdir(),
    "folder in place of a file": lambda entry: folder_for_file(entry / "made.txt"),
    "link in place of a file": lambda entry: link_for_file(entry / "made.txt"),
    "link in place of the facts": lambda entry: link_for_file(entry / "facts.json"),
    "link in place of the entry": link_for_entry,
    "file in place of the entry": file_for_entry,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_is_made_anew_and_a_line_says_so(tmp_path, damage):
    entry = stage(StageCache(tmp_path, Silent()), {}, []).files["made.txt"].parent
    damage(entry)
    told, calls = Notes(), []
    healed = stage(StageCache(tmp_path, told), {}, calls)
    assert (healed.cached, len(calls)) == (False, 1)
    assert told.lines == ["the cached result of synthesize was damaged and is made anew"]
    assert (healed.facts, healed.files["made.txt"].read_text()) == ({"answer": 42}, "made")
    again = stage(StageCache(tmp_path, told), {}, calls)
    assert (again.cached, len(calls), len(told.lines)) == (True, 1, 1)


def test_what_a_link_led_to_is_not_removed(tmp_path):
    entry = stage(StageCache(tmp_path / "cache", Silent()), {}, []).files["made.txt"].parent
    shutil.rmtree(entry)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    entry.symlink_to(mine)
    assert not stage(StageCache(tmp_path / "cache", Silent()), {}, []).cached
    assert (mine / "notes.txt").read_text() == "mine"


def test_a_result_nobody_can_read_is_made_anew(tmp_path):
    def work(_, space):
        (space.folder / "number").write_text("7")
        return {}

    def read(result):
        return int(result.files["number"].read_text())

    def run(told):
        return StageCache(tmp_path, told).run("synthesize", {}, work, read)

    entry = run(Silent()).files["number"].parent
    (entry / "number").write_text("seven")
    crafted(entry, files={"number": {"bytes": 5, "sha256": file_sha256(entry / "number")}})
    told = Notes()
    assert (run(told).value, len(told.lines)) == (7, 1)


def test_a_forced_stage_that_fails_keeps_the_earlier_result(tmp_path):
    stage(StageCache(tmp_path, Silent()), {}, [])

    def fail(_, space):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StageCache(tmp_path, Silent(), frozenset({"synthesize"})).run("synthesize", {}, fail)
    assert stage(StageCache(tmp_path, Silent()), {}, []).cached


def test_damaged_entries_are_listed_and_cleared(tmp_path):
    entry = stage(StageCache(tmp_path, Silent()), {}, []).files["made.txt"].parent
    (entry / "facts.json").unlink()
    assert [kept.path for kept in contents(tmp_path)] == [entry]


def test_facts_that_no_json_can_say_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        StageCache(tmp_path, Silent()).run("measure", {}, lambda *_: {"ms": float("nan")})
    assert list(tmp_path.iterdir()) == []


ONCE = """
import sys, time
from pathlib import Path
from edgeq.cache import StageCache
from edgeq.progress import Silent

def work(inputs, space):
    with Path("times").open("a") as file:
        file.write("x")
    time.sleep(0.5)
    (space.folder / "made.txt").write_text("made")
    if sys.argv[1:] == ["die"]:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return {}

print(StageCache(Path("cache"), Silent()).run("write", {}, work).cached)
"""


def test_builds_at_once_compute_a_stage_once(tmp_path):
    run = [sys.executable, "-c", ONCE]
    at_once = [subprocess.Popen(run, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(process.communicate(timeout=120)[0].strip() for process in at_once)
    assert said == ["False", "True", "True"]
    assert (tmp_path / "times").read_text() == "x"
    assert [path.name for path in (tmp_path / "cache").iterdir() if not path.name.startswith("write-")] == []


def test_a_killed_build_keeps_no_other_waiting(tmp_path):
    killed = subprocess.run([sys.executable, "-c", ONCE, "die"], cwd=tmp_path, check=False)
    assert killed.returncode < 0
    after = subprocess.run(
        [sys.executable, "-c", ONCE], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert after.stdout.strip() == "False"
