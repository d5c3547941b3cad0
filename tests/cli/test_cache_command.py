"""`edgeq cache`: what stages take, and that clearing removes stages and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from edgeq.cache import StageCache, Workspace, key_of
from edgeq.progress import Silent
from tests.cli.console import one_line, run

pytestmark = pytest.mark.usefixtures("in_a_folder")

DAY = 86_400


def kept(stage: str, size: int, days: float, folder: str = ".edgeq-cache") -> Path:
    def work(inputs: dict[str, float], space: Workspace) -> dict[str, int]:
        (space.folder / "made").write_bytes(bytes(size))
        return {}

    made = StageCache(Path(folder), Silent()).run(stage, {"size": size, "days": days}, work).files["made"].parent
    aged(made, days)
    return made


def aged(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for one in (*path.rglob("*"), path):
        os.utime(one, (then, then))


def unfinished(days: float) -> Path:
    folder = Path(".edgeq-cache/unfinished") / f"finetune-{key_of(days)}"
    folder.mkdir(parents=True)
    (folder / "step.pt").write_bytes(bytes(500_000))
    aged(folder, days)
    return folder


def test_says_where_how_much_and_how_old() -> None:
    assert run("cache").stdout == ".edgeq-cache: 0 entries\n"
    kept("synthesize", 1_500_000, 40)
    kept("synthesize", 2_000_000, 3)
    unfinished(2)
    lines = run("cache").stdout.splitlines()
    assert lines[0] == ".edgeq-cache: 3 entries, 4.0 MB"
    assert lines[2].split("  ")[0] == "synthesize"
    assert lines[2].endswith("3 days ago")
    assert lines[3].startswith("finetune, unfinished")
    facts = json.loads(run("cache", "--json").stdout)
    assert [entry["stage"] for entry in facts["entries"]] == ["synthesize", "synthesize", "finetune"]
    assert facts["bytes"] == sum(entry["bytes"] for entry in facts["entries"]) > 4_000_000


def test_a_folder_that_is_named_must_be_there() -> None:
    for more in ((), ("--json",), ("--clear",)):
        one_line(run("cache", "--cache", "nowhere", *more), 2, "--cache nowhere: there is no such folder")


def test_clears_what_was_not_used_for_long() -> None:
    old, used = kept("synthesize", 10, 40), kept("calibrate", 10, 40)
    assert kept("calibrate", 10, 40) == used
    StageCache(Path(".edgeq-cache"), Silent()).run("calibrate", {"size": 10, "days": 40}, lambda *_: {})
    result = run("cache", "--clear", "--older-than", "30")
    assert (result.exit_code, result.stdout.splitlines()[0][:15]) == (0, "removed 1 entry")
    assert (old.exists(), used.exists()) == (False, True)
    assert json.loads(run("cache", "--clear", "--json").stdout)["removed"]["entries"] == 1
    assert not used.exists()


def test_clears_nothing_but_stages() -> None:
    made = kept("write", 10, 1)
    running, left = unfinished(0), unfinished(1)
    mine = Path(".edgeq-cache/notes")
    mine.mkdir()
    (mine / "facts.json").write_text("{}")
    link = made.with_name(made.name[:-4] + "0000")
    link.symlink_to(mine, target_is_directory=True)
    assert run("cache", "--clear").exit_code == 0
    assert (made.exists(), left.exists()) == (False, False)
    assert running.exists()  # it may be a build at work
    assert (mine / "facts.json").exists()
    assert link.is_symlink()


def test_the_folder_is_that_of_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("edgeq.toml").write_text('cache = "ours"\n')
    kept("write", 10, 1, folder="ours")
    assert run("cache").stdout.startswith("ours: 1 entry")
    monkeypatch.setenv("EDGEQ_CACHE", "theirs")
    assert run("cache").stdout.startswith("theirs: 0 entries")
    assert run("cache", "--cache", "ours").stdout.startswith("ours: 1 entry")


def test_an_age_alone_is_refused() -> None:
    one_line(run("cache", "--older-than", "3"), 2, "--older-than", "--clear")
