"""`edgeq report`: one page for several builds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli.shell import columns, print_json, say
from edgeq.errors import ArtifactError

if TYPE_CHECKING:
    from edgeq.report.pages.index import IndexRow

__all__ = ["report"]

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", type=FILE, default=Path("builds.html"), show_default=True, help="page to write")
@click.option("--json", "as_json", is_flag=True, help="print the table as JSON on standard output")
@click.pass_context
def report(ctx: click.Context, /, folders: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write one page about several builds: accuracy, loss, size and latency, by model and target.

    \b
    edgeq report build/*
    edgeq report build/ nightly/ -o public/index.html

    DIR is the folder of a build, or a folder that holds several. The page links to the report of each build, by a path
    relative to itself. A build that cannot be read is named on the page, and the exit code is then 2.
    """
    from edgeq.files import write_atomic
    from edgeq.report.builds import find_builds
    from edgeq.report.pages.index import index_json, index_rows, render_index

    if output.is_dir():
        raise ArtifactError(f"cannot write {output}", why="it is a folder")
    rows = index_rows(list(dict.fromkeys(build for folder in folders for build in find_builds(folder))))
    if all(row.error for row in rows):
        raise ArtifactError(rows[0].error.rpartition(" [")[0])
    write_atomic(output, render_index(rows, output))
    if as_json:
        print_json(index_json(rows))
    else:
        _show([row for row in rows if not row.error])
    say(f"page {output}")
    for row in rows:
        if row.error:
            say(f"edgeq: {row.error}")
    ctx.exit(2 if any(row.error for row in rows) else 0)


def _show(rows: list[IndexRow]) -> None:
    table = [["model", "target", "bits", "score", "change", "bytes", "ms", "ratio", "folder"]]
    for row in rows:
        times = ["-", "-"] if row.milliseconds is None else [f"{row.milliseconds:.3f}", f"{row.ratio or 0:.2f}"]
        table.append(
            [
                row.model,
                row.target,
                row.bits,
                f"{row.score:.2f}" if row.score is not None else row.quality or "-",
                "-" if row.points is None else f"{row.points:+.2f}",
                "-" if row.bytes is None else f"{row.bytes:,.0f}",
                *(["doubtful", "-"] if row.doubt else times),
                row.folder,
            ]
        )
    columns(table)
