"""The command line: a table of verbs, each loaded when it is used. Help loads no torch."""

from __future__ import annotations

import os
import sys

import click

from edgeq.cli.shell import Shell, echo, end_in_order, report_error
from edgeq.errors import ConfigError
from edgeq.threads import sleep_while_waiting

__all__ = ["cli", "main"]


def _print_version(ctx: click.Context, option: click.Parameter, requested: bool) -> None:
    if requested and not ctx.resilient_parsing:
        from edgeq.cli.listing import find_installed

        echo(f"edgeq {find_installed()['edgeq']}")
        ctx.exit()


cli = Shell(
    "edgeq",
    {
        "Make": {
            "init": "edgeq.cli.init:init",
            "build": "edgeq.cli.build:build",
            "synth": "edgeq.cli.synth:synth",
            "tune": "edgeq.cli.tune:tune",
            "sweep": "edgeq.cli.sweep:sweep",
        },
        "Check": {
            "check": "edgeq.cli.check:check",
            "compare": "edgeq.cli.compare:compare",
            "history": "edgeq.cli.history:history",
            "verify": "edgeq.cli.verify:verify",
        },
        "Look": {
            "use": "edgeq.cli.use:use",
            "diagnose": "edgeq.cli.diagnose:diagnose",
            "report": "edgeq.cli.report:report",
            "show": "edgeq.cli.show:show",
            "inspect": "edgeq.cli.inspect:inspect",
            "models": "edgeq.cli.listing:models",
            "targets": "edgeq.cli.listing:targets",
            "methods": "edgeq.cli.listing:methods",
        },
        "Devices": {
            "devices": "edgeq.cli.device:devices",
            "device": "edgeq.cli.device:device",
            "eval": "edgeq.cli.eval:evaluate",
            "bench": "edgeq.cli.bench:bench",
        },
        "Environment": {
            "doctor": "edgeq.cli.doctor:doctor",
            "explain": "edgeq.cli.explain:explain",
            "cache": "edgeq.cli.cache:cache",
            "completion": "edgeq.cli.completion:completion",
            "version": "edgeq.cli.listing:version",
        },
    },
    help="""Turn a pretrained PyTorch network into an integer model for an edge device, without training data.

    \b
    edgeq build net.py:make --weights net.pth --input-shape 3,32,32 --plan     is every op supported?
    edgeq build net.py:make --weights net.pth --input-shape 3,32,32            build/net-make-tflite-arm
    edgeq check build/net-make-tflite-arm --max-bytes 4M                       a gate for CI: exit code 0 or 1
    edgeq init net.py:make                                                     the same settings, in two files
    """,
)

cli.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Print edgeq's version and exit.",
    )
)


def main() -> None:
    """Entry point of the `edgeq` command."""
    sleep_while_waiting(os.environ)  # before anything imports torch
    end_in_order()
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1":
        # Each process would build the same files in the same place.
        hint = "start edgeq without torchrun; --threads chooses the threads of its one process"
        sys.exit(report_error(ConfigError("edgeq under torchrun", why="it fine-tunes in one process", hint=hint)))
    cli(prog_name="edgeq")
