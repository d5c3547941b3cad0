"""The stage cache: equal inputs are found, a failed stage leaves nothing, a full disk is an error, no traceback."""

import errno
import os

import pytest

from edgeq.cache import StageCache
from edgeq.errors import ArtifactError
from edgeq.progress import Silent


def stage(cache, parts, calls):
    def work(folder):
        calls.append(parts)
        (folder / "made.txt").write_text("made")
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
    def work(folder):
        (folder / "half.txt").write_text("half")
        raise failure

    cache = StageCache(tmp_path, Silent())
    with pytest.raises(type(failure)):
        cache.run("synthesize", {}, work)
    assert list(tmp_path.iterdir()) == []
    assert not stage(cache, {}, []).cached


def test_two_builds_at_once_keep_the_first_result(tmp_path):
    cache = StageCache(tmp_path, Silent())

    def work(folder):
        stage(cache, {}, [])  # another build finishes the same stage meanwhile, and holds on to its files
        (folder / "made.txt").write_text("late")
        return {"answer": 43}

    result = cache.run("synthesize", {}, work)
    assert (result.facts, result.files["made.txt"].read_text()) == ({"answer": 42}, "made")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_run_left_is_removed(tmp_path):
    entry = next(iter(stage(StageCache(tmp_path, Silent()), {}, []).files.values())).parent
    leftover = tmp_path / f".{entry.name}.0123456789ab.staging"
    entry.rename(leftover)
    os.utime(leftover, (1, 1))
    assert not stage(StageCache(tmp_path, Silent()), {}, []).cached
    assert not leftover.exists()


def test_full_disk_is_a_clear_error(tmp_path):
    def work(folder):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "made.txt"))

    with pytest.raises(ArtifactError, match="No space left on device"):
        StageCache(tmp_path, Silent()).run("write", {}, work)
    assert list(tmp_path.iterdir()) == []


def test_torn_entry_is_not_believed(tmp_path):
    made = stage(StageCache(tmp_path, Silent()), {}, [])
    (made.files["made.txt"].parent / "facts.json").write_text("{")
    assert not stage(StageCache(tmp_path, Silent()), {}, []).cached
