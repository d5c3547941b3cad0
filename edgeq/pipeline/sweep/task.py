"""One build of a sweep, in a process of its own: a crash, a leak or a hang of one network is no other's."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeq.config.build import BuildConfig, settings_of
from edgeq.config.sweep import LOGS, Planned, Sweep
from edgeq.errors import printable
from edgeq.files import write_atomic
from edgeq.pipeline.sweep.state import Outcome, Word, cancelled, keep
from edgeq.store import is_address

__all__ = ["Task", "run_task", "task_of"]

POLL = 0.2
"""Seconds between two looks whether somebody cancelled."""

PATIENCE = 10.0
"""Seconds that a cancelled build has to end by itself."""

KEPT = 400
"""Letters of an error that are kept."""

_STAGE = re.compile(r"\d\d:\d\d:\d\d ([a-z]+) (?:\.\.\.|(cached|[\d.]+ s|\d+ min \d+ s))$")


@dataclass(frozen=True)
class Task:
    """A build as an executor takes it: text and paths only, so that it can be sent to another machine that shares
    these folders. `threads` is for libraries; it is in no key of the cache, so the results are those of any build."""

    name: str
    arguments: Sequence[str]
    state: Path
    log: Path
    threads: int


def task_of(sweep: Sweep, planned: Planned, threads: int, extra: Sequence[str] = ()) -> Task:
    """The task of a planned build, with `extra` arguments at the end of its command line."""
    arguments = [*planned.config.arguments()[1:], "--cache", str(planned.config.cache), *extra]
    return Task(planned.name, arguments, sweep.state, sweep.output / LOGS / f"{planned.name}.txt", threads)


def run_task(task: Task) -> Outcome:
    """Run the build and keep what it came to. Never raises for a build that fails."""
    began, clock = time.time(), time.monotonic()
    outcome = Outcome(task.name, "running", command=("edgeq", *task.arguments), began=began)
    if cancelled(task.state):
        outcome = dataclasses.replace(outcome, word="cancelled")
        keep(task.state, outcome)
        return outcome
    keep(task.state, outcome)
    task.log.parent.mkdir(parents=True, exist_ok=True)
    # The sweep's file, which has read these variables, is the only one that counts; but for a shared store.
    settings = {setting.variable for setting in settings_of(BuildConfig).values()}
    surrounding = {name: value for name, value in os.environ.items() if name not in settings or _is_shared(name, value)}
    surrounding |= {"OMP_NUM_THREADS": str(task.threads), "NO_COLOR": "1"}
    nothing = task.state / "edgeq.toml"
    write_atomic(nothing, "# Each build of this sweep is told everything on its command line.\n")
    command = [sys.executable, "-m", "edgeq", *task.arguments, "--config", str(nothing)]
    with task.log.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.PIPE,
            env=surrounding,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        reader = _Reader(process.stderr or (), log, task.state, outcome)
        reader.start()
        word = _await(process, task.state)
        reader.join(PATIENCE)
    outcome = dataclasses.replace(
        reader.outcome,
        word=word or ("done" if process.returncode == 0 else "failed"),
        exit_status=process.returncode,
        error="" if process.returncode == 0 or word else reader.last[:KEPT] or _end(process.returncode),
        seconds=time.monotonic() - clock,
    )
    keep(task.state, outcome)
    return outcome


def _is_shared(name: str, value: str) -> bool:
    return name == "EDGEQ_CACHE" and is_address(value)


def _await(process: subprocess.Popen[str], state: Path) -> Word | None:
    """Wait for the end. The build is ended where somebody cancels."""
    while True:
        try:
            process.wait(POLL)
            return None
        except subprocess.TimeoutExpired:
            if not cancelled(state):
                continue
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return "cancelled"


def _end(status: int) -> str:
    return f"the build ended by signal {-status}" if status < 0 else f"the build ended with exit code {status}"


class _Reader(threading.Thread):
    """Reads what the build says: into its log, and the stages into its state."""

    def __init__(self, source: Iterable[str], log: IO[str], state: Path, outcome: Outcome) -> None:
        super().__init__(daemon=True)
        self.outcome, self.last = outcome, ""
        self._source, self._log, self._state = source, log, state

    def run(self) -> None:
        for line in self._source:
            self._log.write(line)
            self._log.flush()
            text = printable(line.strip())
            if text.startswith("edgeq: "):
                self.last = text.removeprefix("edgeq: ")
            if found := _STAGE.match(text):
                word = "running" if found[2] is None else "cached" if found[2] == "cached" else "computed"
                self.outcome = dataclasses.replace(self.outcome, stages={**self.outcome.stages, found[1]: word})
                keep(self._state, self.outcome)
