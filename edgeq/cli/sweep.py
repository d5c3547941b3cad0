"""`edgeq sweep`: many builds out of one sweep.toml, their progress, and one report about all of them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.shell import Shell, columns, echo, print_json, say
from edgeq.config.build import Budget
from edgeq.config.sweep import CSV, JSON, JUNIT, PAGE, Sweep, read_sweep
from edgeq.errors import ArtifactError
from edgeq.threads import available

if TYPE_CHECKING:
    from edgeq.pipeline.sweep.state import Outcome
    from edgeq.report.sweep import SweepRow
    from edgeq.report.verdict import Verdict

__all__ = ["cancel", "report", "run", "status", "sweep"]

FILE = click.Path(path_type=Path)

_json = click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
_file = click.argument("file", metavar="[SWEEP.TOML]", type=FILE, default=Path("sweep.toml"))

sweep = Shell(
    "sweep",
    {
        "Commands": {
            "run": "edgeq.cli.sweep:run",
            "status": "edgeq.cli.sweep:status",
            "report": "edgeq.cli.sweep:report",
            "cancel": "edgeq.cli.sweep:cancel",
        }
    },
    help="""Build every combination of models, methods, bits and targets that a sweep.toml names.

    \b
    edgeq sweep run sweep.toml
    edgeq sweep status sweep.toml
    edgeq sweep report sweep.toml
    """,
)


@click.command()
@_file
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="builds at once, which divide the cores [default: one for each core, 8 at most]",
)
@click.option("--plan", is_flag=True, help="list the builds and do no work")
@_json
@click.option("--quiet", "-q", is_flag=True, help="no progress, no summary")
@click.pass_context
def run(ctx: click.Context, /, file: Path, workers: int | None, plan: bool, as_json: bool, quiet: bool) -> None:
    """Build all that SWEEP.TOML plans, several at once, and write one report about it.

    \b
    edgeq sweep run sweep.toml --plan
    edgeq sweep run sweep.toml --workers 4

    The same command resumes a sweep that was cut off: what is finished is found in the cache, and what several builds
    share is computed once. What was timed while other builds ran is timed again at the end, alone, and so are all
    devices. A build that fails is a row of the report, and the others go on.

    Exit 0 when all builds were made and hold the limits of [budget], 1 when a limit is missed, else the largest exit
    code of the builds that failed.
    """
    planned = read_sweep(file, os.environ)
    if plan:
        _show_plan(planned, as_json)
        return
    from edgeq.pipeline.sweep.run import run_sweep

    planned.check_place()
    count = min(workers or min(8, available()), len(planned.builds))
    outcomes = run_sweep(planned, count, _Lines(quiet))
    rows, verdict = _write(planned, outcomes)
    if as_json:
        print_json(_facts(rows, verdict))
    elif not quiet:
        _show(rows)
    if not quiet:
        _say_end(planned, rows, verdict)
    ctx.exit(_exit_status(outcomes, verdict))


@click.command()
@_file
@_json
def status(file: Path, as_json: bool) -> None:
    """Say where the builds of SWEEP.TOML stand; from another terminal while they are made, or afterwards.

    \b
    edgeq sweep status sweep.toml
    edgeq sweep status sweep.toml --json
    """
    from edgeq.pipeline.sweep.state import is_running, outcome_json, outcomes

    planned = read_sweep(file, os.environ)
    found, running = outcomes(planned), is_running(planned)
    if as_json:
        print_json({"running": running, "builds": [outcome_json(one) for one in found]})
        return
    columns([["build", "state", "stage", "seconds"], *(_status_row(one) for one in found)])
    counts = Counter(one.word for one in found)
    echo(f"{'at work' if running else 'not at work'}: {', '.join(f'{n} {word}' for word, n in counts.items())}")


@click.command()
@_file
@_json
@click.pass_context
def report(ctx: click.Context, /, file: Path, as_json: bool) -> None:
    """Write the report about all builds of SWEEP.TOML again, from what is there: page, JSON, CSV and JUnit.

    \b
    edgeq sweep report sweep.toml
    edgeq sweep report sweep.toml --json

    Exit codes are those of edgeq sweep run.
    """
    from edgeq.pipeline.sweep.state import outcomes

    planned = read_sweep(file, os.environ)
    if not planned.state.is_dir():
        raise ArtifactError(f"no sweep has run in {planned.output}", hint=f"edgeq sweep run {file}")
    found = outcomes(planned)
    rows, verdict = _write(planned, found)
    if as_json:
        print_json(_facts(rows, verdict))
    else:
        _show(rows)
    _say_end(planned, rows, verdict)
    ctx.exit(_exit_status(found, verdict))


@click.command()
@_file
def cancel(file: Path) -> None:
    """End the builds of SWEEP.TOML that are being made; what is finished stays, and the next run goes on from there.

    \b
    edgeq sweep cancel sweep.toml
    """
    from edgeq.pipeline.sweep.state import ask_to_cancel, is_running

    planned = read_sweep(file, os.environ)
    if not is_running(planned):
        echo("no sweep is at work there on this machine")
        return
    ask_to_cancel(planned)
    echo("the running builds are being ended")


def _write(planned: Sweep, outcomes: Sequence[Outcome]) -> tuple[list[SweepRow], Verdict | None]:
    """Write the report's files, and judge the builds where the file sets limits."""
    from edgeq.files import write_atomic
    from edgeq.report.junit import junit_xml
    from edgeq.report.pages.sweep import render_sweep
    from edgeq.report.sweep import sweep_csv, sweep_rows

    rows, verdict = sweep_rows(planned, outcomes), _verdict(planned, outcomes)
    planned.output.mkdir(parents=True, exist_ok=True)
    page = planned.output / PAGE
    write_atomic(page, render_sweep(planned.file.stem, rows, page))
    write_atomic(planned.output / JSON, _text(_facts(rows, verdict)))
    write_atomic(planned.output / CSV, sweep_csv(rows))
    if verdict is not None:
        write_atomic(planned.output / JUNIT, junit_xml(verdict))
    return rows, verdict


def _verdict(planned: Sweep, outcomes: Sequence[Outcome]) -> Verdict | None:
    import dataclasses

    from edgeq.config.budget import read_budgets
    from edgeq.report.check import check
    from edgeq.report.verdict import judge

    budgets = read_budgets({}, {}, planned.file, None)
    done = [planned.folder(one.name) for one in outcomes if one.word == "done"]
    limits = {folder: budgets.of(folder.name) for folder in done}
    if not done or all(budget == Budget() for budget, _ in limits.values()):
        return None
    return judge(done, lambda folder: (check(folder, **dataclasses.asdict(limits[folder][0])), limits[folder][1]))


def _facts(rows: Sequence[SweepRow], verdict: Verdict | None) -> dict[str, Any]:
    from edgeq.report.sweep import sweep_json

    return sweep_json(rows) | {"check": None if verdict is None else verdict.to_json()}


def _text(value: Any) -> str:
    import json

    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _exit_status(outcomes: Sequence[Outcome], verdict: Verdict | None) -> int:
    """The largest exit code of builds that failed; one that a signal ended, or that is not finished, counts as 2."""
    failed = [one.exit_status if one.exit_status > 0 else 2 for one in outcomes if one.word != "done"]
    return max([*failed, 0 if verdict is None else verdict.exit_status])


def _show_plan(planned: Sweep, as_json: bool) -> None:
    if as_json:
        builds = [
            {"name": one.name, "axes": dict(one.axes), "command": one.config.arguments()} for one in planned.builds
        ]
        print_json({"output": str(planned.output), "builds": builds})
        return
    axes = list(planned.builds[0].axes)
    columns([["build", *axes], *([one.name, *(one.axes[axis] for axis in axes)] for one in planned.builds)])
    echo(f"{len(planned.builds)} builds in {planned.output}")


def _status_row(one: Outcome) -> list[str]:
    return [one.name, one.word, one.stage or one.error[:60] or "-", f"{one.seconds:.1f}" if one.seconds else "-"]


def _show(rows: Sequence[SweepRow]) -> None:
    table = [["build", "target", "score", "change", "bytes", "ms", "ratio", ""]]
    for row in rows:
        one = row.built
        times = ["-", "-"] if one.milliseconds is None else [f"{one.milliseconds:.3f}", f"{one.ratio or 0:.2f}"]
        table.append(
            [
                row.name,
                one.target,
                f"{one.score:.2f}" if one.score is not None else one.quality or "-",
                "-" if one.points is None else f"{one.points:+.2f}",
                "-" if one.bytes is None else f"{one.bytes:,.0f}",
                *(["doubtful", "-"] if one.doubt else times),
                "on the front" if row.front else "" if row.word == "done" else row.word,
            ]
        )
    columns(table)


def _say_end(planned: Sweep, rows: Sequence[SweepRow], verdict: Verdict | None) -> None:
    for row in rows:
        if row.word != "done":
            say(f"edgeq: {row.name} {row.word}{': ' + row.error if row.error else ''}")
    if verdict is not None:
        say(verdict.summary)
    say(f"page {planned.output / PAGE}")


class _Lines:
    """A line when a build ends, and one every few seconds that says where the others are, with the time left."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._began, self._done, self._total = quiet, time.monotonic(), 0, 0

    def _say(self, text: str) -> None:
        if not self._quiet:
            say(f"{time.strftime('%H:%M:%S')} {text}")

    def begin(self, sweep: Sweep, workers: int) -> None:
        self._began, self._total = time.monotonic(), len(sweep.builds)
        self._say(f"{self._total} builds, {workers} at once, in {sweep.output}")

    def tick(self, outcomes: Sequence[Outcome]) -> None:
        running = [f"{one.name} ({one.stage})" for one in outcomes if one.word == "running"]
        shown = ", ".join(running[:3]) + (f" and {len(running) - 3} more" if len(running) > 3 else "")
        self._say(f"{self._done}/{self._total}{self._left()}: {shown}")

    def ended(self, outcome: Outcome, done: int, total: int) -> None:
        self._done = done
        self._say(f"{done}/{total} {outcome.name} {outcome.word} after {outcome.seconds:.1f} s{self._left()}")

    def quiet(self, name: str, done: int, total: int) -> None:
        self._say(f"measured alone {done + 1}/{total}: {name}")

    def _left(self) -> str:
        if not self._done or self._done >= self._total:
            return ""
        seconds = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        return f", about {seconds:.0f} s left" if seconds < 100 else f", about {seconds / 60:.0f} min left"
