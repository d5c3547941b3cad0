"""`edgeq use`: a program that runs the file of a build in an app."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from edgeq.cli.shell import echo, print_json
from edgeq.config.formats import FORMATS

__all__ = ["use"]


@click.command()
@click.argument("build", type=click.Path(path_type=Path))
@click.option("--language", "-l", type=click.Choice(["python", "kotlin", "c++"]), default="python", show_default=True)
@click.option(
    "--runtime",
    type=click.Choice(sorted({name for facts in FORMATS.entries() for name in facts.runtimes})),
    help="what runs the file there [default: the target's]",
)
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def use(build: Path, language: str, runtime: str | None, as_json: bool) -> None:
    """Print a whole program that runs the file of BUILD, the folder of a finished build, in an app.

    \b
    edgeq use build/resnet20-tflite-arm > use.py
    edgeq use build/resnet20-tflite-arm --language kotlin > Model.kt

    The program prepares pictures, quantizes, runs the file and decodes its answers as the build did. It needs nothing
    of edgeq.
    """
    from edgeq.report.programs import program
    from edgeq.report.reading import read_report

    made = program(read_report(build), language, runtime)
    if as_json:
        print_json(dataclasses.asdict(made))
    else:
        echo(made.text.removesuffix("\n"))
