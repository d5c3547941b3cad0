"""`edgeq compare`: explain what differs between two builds."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli.shell import print_json

__all__ = ["compare"]

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("before", metavar="A", type=FILE)
@click.argument("after", metavar="B", type=FILE)
@click.option("--markdown", type=FILE, help="also write the tables as Markdown to this file")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on standard output")
def compare(before: Path, after: Path, markdown: Path | None, as_json: bool) -> None:
    """Explain what differs between the builds A and B: accuracy, grids, settings, size and latency.

    \b
    edgeq compare main-builds/net-tflite-arm build/net-tflite-arm
    edgeq compare build/net-tflite-arm build/net-onnx-x86 --markdown compare.md

    A and B are folders of builds. Where both answered the same evaluation images, accuracy is compared image by image.
    Latency is compared where both were timed under the same conditions. To fail on a difference, use edgeq check
    --against.
    """
    from edgeq.files import write_atomic
    from edgeq.report.compare import compare_builds
    from edgeq.report.comparetables import compare_markdown

    facts = compare_builds(before, after)
    if markdown is not None:
        write_atomic(markdown, compare_markdown(facts))
    if as_json:
        print_json(facts)
    else:
        _show(facts)


def _show(facts: dict[str, object]) -> None:
    from rich.table import Table

    from edgeq.cli.summary import WIDTH
    from edgeq.cli.terminal import console, join_styled
    from edgeq.report.comparetables import compare_tables

    out = console(width=WIDTH)  # a summary is the result of its command
    for each in compare_tables(facts):
        out.print(join_styled("\n", (each.title, "bold")))
        table = Table(box=None, padding=(0, 2))
        for column in each.columns:
            table.add_column(column, overflow="fold")
        for row in each.rows:
            table.add_row(*row)
        if each.rows:
            out.print(table)
        for note in each.notes:
            out.print(f"  {note}", soft_wrap=True)
