"""`edgeq history`: what builds of each commit came to, and which changes are real."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgeq.cli.shell import Shell, columns, echo, print_json
from edgeq.errors import ConfigError

__all__ = ["add", "check", "export", "history", "show"]

FILE = click.Path(path_type=Path)

_json = click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
_db = click.option("--db", type=FILE, default=Path("history.sqlite"), show_default=True, help="the history's file")

history = Shell(
    "history",
    {"Commands": {name: f"edgeq.cli.history:{name}" for name in ("add", "show", "check", "export")}},
    help="""Keep what builds of each commit came to, and tell real steps from noise.

    \b
    edgeq history add BUILD
    edgeq history check
    """,
)


@click.command()
@click.argument("builds", metavar="BUILD...", nargs=-1, required=True, type=FILE)
@click.option("--commit", metavar="HASH", help="the commit that was built [default: git's HEAD]")
@_db
def add(builds: tuple[Path, ...], commit: str | None, db: Path) -> None:
    """Add finished builds to the history, all of them or none.

    \b
    edgeq history add build/
    edgeq history add build/ --commit 1a2b3c4
    """
    import re

    from edgeq.report.history import add_entries, entry_of

    commit = commit or _head()
    if not re.fullmatch("[0-9a-f]{4,64}", commit):
        raise ConfigError(f"--commit {commit[:80]!r} is no hash", hint="give 4 to 64 digits of 0-9 and a-f")
    add_entries(db, [entry_of(folder, commit) for folder in builds])
    echo(f"{len(builds)} builds of {commit[:12]} added to {db}")


@click.command()
@_db
@_json
def show(db: Path, as_json: bool) -> None:
    """Print all builds of the history, oldest first.

    \b
    edgeq history show
    """
    from edgeq.report.history import read_entries

    kinds = ("score", "bytes", "ms", "ratio")
    rows = [
        {"name": name, "commit": each.hash, "n": each.n} | {kind: getattr(each, kind) for kind in kinds}
        for name, entries in read_entries(db).items()
        for each in entries
    ]
    if as_json:
        print_json({"builds": rows})
        return
    cells = [[str(row["name"]), str(row["commit"])[:12], *(_number(row[kind]) for kind in kinds)] for row in rows]
    columns([["build", "commit", *kinds], *cells])


@click.command()
@_db
@click.option("--last", type=click.IntRange(1), metavar="N", help="steps of the last N builds only [default: all]")
@_json
@click.pass_context
def check(ctx: click.Context, /, db: Path, last: int | None, as_json: bool) -> None:
    """Find real steps of accuracy and latency. Exit 1 when one is for the worse.

    \b
    edgeq history check
    edgeq history check --last 20
    """
    from edgeq.report.history import read_entries
    from edgeq.report.history_steps import history_steps

    found = read_entries(db)
    steps = [step for step in history_steps(found) if last is None or step.at >= len(found[step.name]) - last]
    worse = [step for step in steps if step.is_worse]
    if as_json:
        print_json({"steps": [asdict(step) | {"worse": step.is_worse} for step in steps]})
    else:
        for step in steps:
            unit = "points" if step.metric == "accuracy" else "%"
            word = "worse" if step.is_worse else "better"
            echo(f"{step.name}: {step.metric} is {word} since {step.commit[:12]}: {step.change:+.2f} {unit}")
        echo(f"{len(steps)} steps, {len(worse)} for the worse")
    ctx.exit(1 if worse else 0)


@click.command()
@click.option("--format", "form", type=click.Choice(["bencher", "github-action-benchmark"]), required=True)
@_db
def export(form: str, db: Path) -> None:
    """Print the newest builds as JSON for Bencher or github-action-benchmark.

    \b
    edgeq history export --format bencher
    """
    import json

    from edgeq.report.history import read_entries
    from edgeq.report.history_steps import bencher, github_action_benchmark

    found = read_entries(db)
    echo(json.dumps(bencher(found) if form == "bencher" else github_action_benchmark(found), indent=1))


def _head() -> str:
    import subprocess

    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError("git names no commit here", hint="say which with --commit HASH") from error
    return done.stdout.strip()


def _number(value: object) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else "-"
