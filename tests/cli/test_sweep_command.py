"""`edgeq sweep`: builds of one file, what they share computed once, what fails a row, what was cut off resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.config.sweep import Sweep, read_sweep
from edgeq.pipeline.sweep import run as sweep_run
from edgeq.pipeline.sweep import task as sweep_task
from edgeq.pipeline.sweep.state import Outcome, at_work, cancelled, keep, outcomes
from edgeq.pipeline.sweep.task import Task, run_task, task_of

pytestmark = pytest.mark.usefixtures("here")


def edgeq(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="edgeq")


def write(*axes: str, more: str = "") -> Sweep:
    lines = ["[axes]", *axes, "[build]", 'effort = "fast"', "images = 4", more]
    Path("sweep.toml").write_text("\n".join(lines))
    return read_sweep(Path("sweep.toml"), {})


TARGETS = 'targets = ["tflite-arm", "onnx-arm"]'


def test_a_sweep_is_the_single_builds_and_shares_what_is_equal() -> None:
    planned = write('models = ["model.toml", { name = "absent", model = "absent.py:net" }]', TARGETS)
    done = edgeq("sweep", "run", "--workers", "2", "--json")
    assert done.exit_code == 2, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["builds"]}
    assert [row["state"] for row in rows.values()] == ["done", "done", "failed", "failed"]
    assert "absent.py" in rows["absent-tflite-arm"]["error"]
    assert "\n" not in rows["absent-tflite-arm"]["error"]
    built = [row for row in rows.values() if row["state"] == "done"]
    assert sorted(row["stages"]["synthesize"] for row in built) == ["cached", "computed"]
    assert len(list(Path(".edgeq-cache").glob("synthesize-*"))) == 1
    for planned_build in planned.builds[:2]:
        config = planned_build.config
        words = [*config.arguments()[1:], "--cache", "alone", "-o", "alone-out", "--quiet"]
        assert edgeq(*words).exit_code == 0
        assert config.output is not None
        name = next(config.output.glob("model.*")).name
        assert (config.output / name).read_bytes() == (Path("alone-out") / name).read_bytes()
    again = edgeq("sweep", "run", "--json")
    stages = [row["stages"] for row in json.loads(again.stdout)["builds"] if row["state"] == "done"]
    assert {stages[i][name] for i in range(2) for name in ("synthesize", "calibrate", "write")} == {"cached"}
    assert {path.name for path in planned.output.iterdir()} >= {"index.html", "sweep.json", "sweep.csv", "logs"}
    assert "absent-tflite-arm" in (planned.output / "index.html").read_text()
    table = list(csv.reader((planned.output / "sweep.csv").read_text().splitlines()))
    assert [line[0] for line in table[1:]] == list(rows)
    stated = json.loads(edgeq("sweep", "status", "--json").stdout)
    assert stated["running"] is False
    assert [one["word"] for one in stated["builds"]] == ["done", "done", "failed", "failed"]


def fake(words: dict[str, str] | None = None):
    """A stand-in for builds: each comes at once to the word that `words` says, by name."""

    def run(task: Task) -> Outcome:
        word = (words or {}).get(task.name, "done")
        outcome = Outcome(task.name, word, exit_status=3 if word == "failed" else 0, error="no" * (word == "failed"))  # type: ignore[arg-type]
        keep(task.state, outcome)
        return outcome

    return run


def test_the_exit_code_is_that_of_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    write('models = ["model.toml"]', 'bits = ["w8a8", "w4a8"]')
    monkeypatch.setattr(sweep_run, "run_task", fake({"model-w4a8": "failed"}))
    done = edgeq("sweep", "run")
    assert done.exit_code == 3
    assert "edgeq: model-w4a8 failed: no" in done.stderr


def test_builds_that_share_images_come_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = write('models = ["a.py:net", "b.py:net"]', 'bits = ["w8a8", "w6a8"]')
    seen: list[str] = []

    def run(task: Task) -> Outcome:
        seen.append(task.name)
        return fake()(task)

    monkeypatch.setattr(sweep_run, "run_task", run)
    assert edgeq("sweep", "run", "--workers", "1", "--quiet").exit_code in (0, 2)
    assert seen == ["a-net-w8a8", "b-net-w8a8", "a-net-w6a8", "b-net-w6a8"]
    assert [one.word for one in outcomes(planned)] == ["done"] * 4


def test_any_executor_carries_the_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = write('bits = ["w8a8", "w4a8"]')
    monkeypatch.setattr(sweep_run, "run_task", fake())

    class Watch:
        begin = tick = ended = quiet = staticmethod(lambda *_: None)

    with ThreadPoolExecutor(1) as pool:
        done = sweep_run.run_sweep(planned, 1, Watch(), pool)
        assert pool.submit(lambda: 1).result() == 1  # it is its owner who shuts it down
    assert [one.word for one in done] == ["done", "done"]


def test_two_runs_in_one_folder_are_refused_and_cancel_ends_one(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = write('bits = ["w8a8", "w4a8"]')
    assert "no sweep is at work" in edgeq("sweep", "cancel").stdout
    began, seen = threading.Event(), []

    def run(task: Task) -> Outcome:
        began.set()
        while not cancelled(task.state):
            threading.Event().wait(0.01)
        seen.append(task.name)
        outcome = Outcome(task.name, "cancelled")
        keep(task.state, outcome)
        return outcome

    monkeypatch.setattr(sweep_run, "run_task", run)
    worker = threading.Thread(target=sweep_run.run_sweep, args=(planned, 1, _Quiet()))
    worker.start()
    assert began.wait(60)
    assert json.loads(edgeq("sweep", "status", "--json").stdout)["running"] is True
    refused = edgeq("sweep", "run")
    assert refused.exit_code == 2
    assert "at work" in refused.stderr
    assert edgeq("sweep", "cancel").exit_code == 0
    worker.join(60)
    assert [one.word for one in outcomes(planned)] == ["cancelled", "cancelled"]
    with at_work(planned):  # the next run does not find the last one's word
        assert not cancelled(planned.state)


class _Quiet:
    begin = tick = ended = quiet = staticmethod(lambda *_: None)


def test_a_build_that_is_killed_is_a_row_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = write('bits = ["w8a8"]')
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho '10:00:00 capture ...' >&2\necho '10:00:01 capture 1.0 s' >&2\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sweep_task.sys, "executable", str(program))
    outcome = run_task(task_of(planned, planned.builds[0], 1))
    assert (outcome.word, outcome.exit_status, outcome.error) == ("failed", -9, "the build ended by signal 9")
    assert outcome.stages == {"capture": "computed"}
    assert outcomes(planned)[0].error == outcome.error


@pytest.mark.parametrize("body", [b"", b"{}", b'{"sha256": 1}', b"[" * 5000, b"\xff" * 10, b"x" * 100_000])
def test_states_of_anybody_say_nothing(body: bytes) -> None:
    planned = write('bits = ["w8a8"]')
    planned.state.mkdir(parents=True)
    (planned.state / f"{planned.builds[0].name}.json").write_bytes(body)
    assert outcomes(planned) == [Outcome(planned.builds[0].name)]
    assert edgeq("sweep", "status").exit_code == 0


def test_a_state_with_control_characters_is_printed_plain() -> None:
    planned = write('bits = ["w8a8"]')
    name = planned.builds[0].name
    keep(planned.state, Outcome(name, "failed", error="\x1b[31mred"))
    assert "\x1b" not in edgeq("sweep", "status").stdout
    keep(planned.state, dataclasses.replace(Outcome(name, "running"), began=1.0))
    assert outcomes(planned)[0].word == "interrupted"


def test_the_plan_does_nothing() -> None:
    write('bits = ["w8a8", "w4a8"]')
    plan = json.loads(edgeq("sweep", "run", "--plan", "--json").stdout)
    assert [one["axes"] for one in plan["builds"]] == [{"bits": "w8a8"}, {"bits": "w4a8"}]
    assert not Path("build").exists()


def test_files_of_others_are_not_lost() -> None:
    planned = write('bits = ["w8a8"]')
    assert "no sweep has run" in edgeq("sweep", "report").stderr
    planned.output.mkdir(parents=True)
    mine = planned.output / "index.html"
    mine.write_text("mine")
    for verb in ("run", "report"):
        refused = edgeq("sweep", verb)
        assert refused.exit_code == 2, refused.stderr
        assert mine.read_text() == "mine"
    mine.unlink()
    planned.output.rmdir()
    planned.output.write_text("a file")
    refused = edgeq("sweep", "run")
    assert refused.exit_code == 2
    assert "not the folder of a sweep" in refused.stderr
