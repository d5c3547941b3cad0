"""Progress a person can watch: a live bar with time left on a terminal, plain timestamped lines anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from edgeq.cli.shell import say
from edgeq.cli.terminal import console, join_styled
from edgeq.progress import Progress, Silent

__all__ = ["Lines", "Live", "progress"]

EVERY = 10.0  # seconds between two plain lines of one stage


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """The display that suits standard error, or a silent one; the live one is taken down again on the way out."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with Live() as live:
            yield live
    else:
        yield Lines()


class Lines:
    """One line when a stage begins, one when it ends, and one every `EVERY` seconds between, with the time left."""

    def __init__(self) -> None:
        self._stage, self._said = "", 0.0
        self._first: tuple[float, int] | None = None

    def _say(self, text: str) -> None:
        say(f"{time.strftime('%H:%M:%S')} {text}")

    def stage(self, name: str) -> None:
        self._stage, self._said, self._first = name, time.monotonic(), None
        self._say(f"{name} ...")

    def step(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = now, done  # what an earlier run has done took this one no time
        if now - self._said < EVERY or done >= total:
            return
        self._said = now
        began, before = self._first
        left = f", about {_seconds((now - began) / (done - before) * (total - done))} left" if done > before else ""
        self._say(f"{self._stage} {done}/{total}{left}{f' ({note})' if note else ''}")

    def done(self, name: str, seconds: float, cached: bool) -> None:
        self._say(f"{name} {'cached' if cached else _seconds(seconds)}")

    def note(self, text: str) -> None:
        self._say(text)


class Live:
    """A bar for the running stage; finished stages stay above it as lines."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._bars = Bars(
            TextColumn("  {task.description:<12}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._begun = False

    def __enter__(self) -> Live:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None

    def stage(self, name: str) -> None:
        self._drop()
        self._task, self._begun = self._bars.add_task(name, total=None, note=""), False

    def step(self, done: int, total: int, note: str = "") -> None:
        if self._task is not None:
            if not self._begun:  # what an earlier run has done took this one no time
                self._bars.reset(self._task, total=total, completed=done)
                self._begun = True
            self._bars.update(self._task, completed=done, total=total, note=note or f"{done}/{total}")

    def done(self, name: str, seconds: float, cached: bool) -> None:
        self._drop()
        self._console.print(join_styled(f"  {name:<12} ", ("cached", "dim") if cached else _seconds(seconds)))

    def note(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False, markup=False)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds) // 60} min {int(seconds) % 60} s"
