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
        "build": "edgeq.cli.build:build",
        "synth": "edgeq.cli.synth:synth",
        "check": "edgeq.cli.check:check",
        "inspect": "edgeq.cli.inspect:inspect",
        "show": "edgeq.cli.show:show",
        "verify": "edgeq.cli.verify:verify",
        "bench": "edgeq.cli.bench:bench",
        "eval": "edgeq.cli.eval:evaluate",
        "cache": "edgeq.cli.cache:cache",
        "device": "edgeq.cli.device:device",
        "devices": "edgeq.cli.device:devices",
        "targets": "edgeq.cli.listing:targets",
        "models": "edgeq.cli.listing:models",
        "methods": "edgeq.cli.listing:methods",
        "version": "edgeq.cli.listing:version",
        "explain": "edgeq.cli.explain:explain",
    },
    help="""Pretrained PyTorch CNN in, proven integer model for an edge device out, without training data.

    \b
    edgeq build --target tflite-arm        the model edgeq.toml names, else the shipped default
    edgeq build net/model.toml --plan      what a build would do, without doing it
    edgeq synth net/model.toml -n 128      its calibration images alone, for any quantizer
    edgeq check build/NAME-tflite-arm --max-drop 1.0
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
