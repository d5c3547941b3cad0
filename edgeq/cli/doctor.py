"""`edgeq doctor`: whether everything that builds depend on is here, and works."""

from __future__ import annotations

import dataclasses

import click

from edgeq.cli.shell import print_json
from edgeq.cli.terminal import console, join_styled

__all__ = ["doctor"]

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
WIDTH = 110  # where there is no terminal to ask


@click.command()
@click.option(
    "--device", "-d", "devices", multiple=True, metavar="DEVICE", help="connect to this one too; may be repeated"
)
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
@click.pass_context
def doctor(ctx: click.Context, /, devices: tuple[str, ...], as_json: bool) -> None:
    """Check Python, packages, runtimes, cores, memory, disk, settings and devices, and say what to do.

    \b
    edgeq doctor
    edgeq doctor --device pi@raspberrypi

    Each runtime is started on a small network, and every integer it computes is compared. Nothing is changed, and the
    network is touched for devices that you name only. Exit 0 when builds can work here, 2 when not.
    """
    from edgeq.pipeline.doctor import examine

    lines = []
    out = console(width=WIDTH)
    for line in examine(devices):
        lines.append(line)
        if not as_json:  # as they are found: the runtimes take seconds
            out.print(join_styled((line.state.ljust(4), _STYLES[line.state]), f"  {line.topic.ljust(8)}  {line.what}"))
            if line.then:
                out.print(join_styled(" " * 16 + f"{'next' if line.state != 'ok' else 'note'}: {line.then}"))
    passed = all(line.state != "fail" for line in lines)
    if as_json:
        print_json({"passed": passed, "checks": [dataclasses.asdict(line) for line in lines]})
    ctx.exit(0 if passed else 2)
