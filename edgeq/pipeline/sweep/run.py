"""Run a sweep: all builds at once, as many as there are workers; then, one by one, what a busy machine cannot measure.

Any `concurrent.futures.Executor` carries the builds: a pool of threads here, whose builds are processes, or that of a
cluster. A stage that several builds share is computed by the first that comes to it; the others wait for it in the
cache (`edgeq.cache.StageCache`), so an engine needs to know nothing of stages.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Protocol

from edgeq.config.build import BuildConfig
from edgeq.config.sweep import Planned, Sweep
from edgeq.errors import ArtifactError, ConfigError
from edgeq.pipeline.sweep.state import Outcome, ask_to_cancel, at_work, cancelled, keep, outcomes
from edgeq.pipeline.sweep.task import run_task, task_of
from edgeq.report.reading import SoundReport
from edgeq.threads import available

__all__ = ["Watch", "run_sweep"]


EVERY = 10.0
"""Seconds between two looks at where all builds stand."""


class Watch(Protocol):
    """Hears of a sweep as it goes."""

    def begin(self, sweep: Sweep, workers: int) -> None:
        """Work on the builds begins."""

    def tick(self, outcomes: Sequence[Outcome]) -> None:
        """Where all builds stand, every `EVERY` seconds."""

    def ended(self, outcome: Outcome, done: int, total: int) -> None:
        """A build ended; it is the `done`-th of `total`."""

    def quiet(self, name: str, done: int, total: int) -> None:
        """The build called `name` is measured again, with nothing beside it."""


def run_sweep(sweep: Sweep, workers: int, watch: Watch, executor: Executor | None = None) -> list[Outcome]:
    """Build everything that `sweep` plans, and return what each build came to, in the order of the file.

    What the cache holds already takes seconds, so the same call resumes a sweep that was cut off. `executor` None takes
    `workers` processes of this machine, which divide its cores. Raises `OccupiedError` where another run is at work in
    the folder. A build that fails is an outcome. On `KeyboardInterrupt` the running builds are ended first.
    """
    with at_work(sweep):
        for planned in sweep.builds:
            keep(sweep.state, Outcome(planned.name))
        watch.begin(sweep, workers)
        threads = max(1, available() // workers) if executor is None else 1
        pool = executor or ThreadPoolExecutor(workers)
        try:
            waiting = [pool.submit(run_task, task_of(sweep, _undisturbed(one), threads)) for one in _in_turns(sweep)]
            _follow(sweep, waiting, watch)
            _measure_alone(sweep, watch)
        except BaseException:  # interrupted, or ended by a signal: no build goes on by itself
            ask_to_cancel(sweep)
            raise
        finally:
            if executor is None:
                pool.shutdown(wait=True, cancel_futures=True)
    return outcomes(sweep)


def _follow(sweep: Sweep, waiting: Sequence[Future[Outcome]], watch: Watch) -> None:
    left = set(waiting)
    while left:
        ended, left = wait(left, EVERY, FIRST_COMPLETED)
        for future in ended:
            watch.ended(future.result(), len(waiting) - len(left), len(waiting))
        if not ended:
            watch.tick(outcomes(sweep))


def _undisturbed(planned: Planned) -> Planned:
    """The build without its devices: boards are measured after all builds, one build at a time."""
    return dataclasses.replace(planned, config=dataclasses.replace(planned.config, devices=()))


def _in_turns(sweep: Sweep) -> list[Planned]:
    """The builds in an order in which those that share their images come far apart, so that few wait for each other."""
    groups: dict[object, list[Planned]] = {}
    for planned in sweep.builds:
        groups.setdefault(_images_of(planned.config), []).append(planned)
    rounds = itertools.zip_longest(*groups.values())
    return [planned for one in rounds for planned in one if planned is not None]


def _images_of(config: BuildConfig) -> object:
    return (
        config.model, config.weights, config.input_shape, config.method, config.images, config.seed, config.effort,
        config.recipe,
    )  # fmt: skip


def _measure_alone(sweep: Sweep, watch: Watch) -> None:
    """Measure again, with nothing beside it, what was timed on a busy machine, and everything on its devices."""
    done = {one.name for one in outcomes(sweep) if one.word == "done"}
    wanted = [(planned, _doubtful(sweep, planned)) for planned in sweep.builds if planned.name in done]
    wanted = [(planned, doubtful) for planned, doubtful in wanted if doubtful or planned.config.devices]
    for index, (planned, doubtful) in enumerate(wanted):
        if cancelled(sweep.state):
            return
        watch.quiet(planned.name, index, len(wanted))
        first = next(one for one in outcomes(sweep) if one.name == planned.name)
        again = run_task(task_of(sweep, planned, available(), ("--force", "measure") if doubtful else ()))
        # What the build computed the first time is cached now, and is still what this sweep took.
        stages = {**again.stages, **{stage: word for stage, word in first.stages.items() if word == "computed"}}
        keep(sweep.state, dataclasses.replace(again, stages=stages, seconds=first.seconds + again.seconds))


def _doubtful(sweep: Sweep, planned: Planned) -> bool:
    try:
        report = SoundReport.read(sweep.folder(planned.name))
    except (ArtifactError, ConfigError):
        return False
    return bool(report.latency_doubt())
