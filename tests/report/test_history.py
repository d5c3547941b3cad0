"""`edgeq history`: what is kept is read back, a real loss is exit 1, and a file that is no history is one line."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.report.history import Entry, add_entries, read_entries
from tests.report.fakebuild import write_build


def edgeq(*words: str) -> Result:
    return CliRunner().invoke(cli, ["history", *words], prog_name="edgeq")


def _entries(worse: float, slower: float) -> list[Entry]:
    random = np.random.default_rng(0)
    found = []
    for i in range(20):
        right = np.arange(3000) < 2400 - (3000 * worse if i >= 10 else 0)
        ratio = 0.5 * (1 + 0.01 * random.random()) * (slower if i >= 10 else 1)
        bits = np.packbits(right).tobytes()
        found.append(Entry(f"{i:07x}", "net", 80.0, 1000.0, 2.0, ratio, "images", 3000, bits))
    return found


def test_a_build_is_kept_and_read_back(tmp_path: Path) -> None:
    folder, db = write_build(tmp_path / "build"), str(tmp_path / "h.sqlite")
    assert edgeq("add", str(folder), "--commit", "1a2b3c4", "--db", db).exit_code == 0
    assert edgeq("add", str(folder), "--commit", "no hash", "--db", db).exit_code == 2
    assert edgeq("add", str(folder), str(tmp_path / "absent"), "--commit", "1a2b3c5", "--db", db).exit_code == 2
    rows = json.loads(edgeq("show", "--db", db, "--json").stdout)["builds"]
    assert [row["commit"] for row in rows] == ["1a2b3c4"]
    assert edgeq("show", "--db", db).exit_code == 0
    for form in ("bencher", "github-action-benchmark"):
        assert json.loads(edgeq("export", "--format", form, "--db", db).stdout)


def test_a_real_loss_is_exit_1_and_noise_is_not(tmp_path: Path) -> None:
    for worse, slower, metrics in ((0.0, 1.0, []), (0.01, 1.0, ["accuracy"]), (0.0, 1.2, ["latency"])):
        db = tmp_path / f"{worse}-{slower}.sqlite"
        entries = _entries(worse, slower)
        add_entries(db, entries)
        assert read_entries(db) == {"net": entries}
        done = edgeq("check", "--db", str(db), "--json")
        steps = json.loads(done.stdout)["steps"]
        assert [(step["metric"], step["at"]) for step in steps] == [(metric, 10) for metric in metrics]
        assert done.exit_code == (1 if metrics else 0)
        assert edgeq("check", "--db", str(db), "--last", "5").exit_code == 0


@pytest.mark.parametrize(
    "spoil",
    [
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 1",
        "CREATE VIEW v AS SELECT 1",
        "UPDATE builds SET answers = x'00'",
        "UPDATE builds SET ratio = 'text'",
        "UPDATE builds SET n = -1",
    ],
)
def test_a_file_that_is_no_history_is_one_line(tmp_path: Path, spoil: str) -> None:
    db = tmp_path / "h.sqlite"
    add_entries(db, _entries(0, 1))
    with sqlite3.connect(db) as store:
        store.execute(spoil)
    done = edgeq("check", "--db", str(db))
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    db.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20)
    assert edgeq("check", "--db", str(db)).exit_code == 2
    assert edgeq("show", "--db", str(tmp_path / "absent")).exit_code == 2
