"""`edgeq check`: hold a finished build to a budget; exit 0 or 1."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import config_option, say_file, settings_options
from edgeq.cli.shell import print_json
from edgeq.config.build import Budget, resolve

__all__ = ["check"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@settings_options(Budget)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="hold this one to the limits of devices; may be repeated [default: those of edgeq.toml, else all measured]",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on standard output")
@click.pass_context
def check(
    ctx: click.Context, /, folder: Path, file: Path | None, devices: tuple[str, ...], as_json: bool, **flags: Any
) -> None:
    """Check the build in DIR against a budget: exit 0 when all of it holds, 1 when not.

    Limits come from the options, else the environment, else [budget] in edgeq.toml. Before any limit, the report must
    be whole, the files those it was measured on, and the integers those that were predicted.

    \b
    edgeq check build/resnet20-tflite-arm --max-drop 1.0 --min-agreement 0.97 --max-bytes 4M
    edgeq check build/resnet20-tflite-pi5 --device pi@raspberrypi --max-device-drop 1.0 --max-device-latency-ratio 0.8
    """
    from edgeq.cli.summary import show_check
    from edgeq.report.check import check as run_check

    effective = resolve(flags | {"devices": devices}, os.environ, file)
    say_file(effective, file)
    effective.budget.refuse_empty(devices)
    budget = dataclasses.asdict(effective.budget)
    verdict = run_check(folder, **budget, devices=effective.config.devices).to_json()
    if as_json:
        print_json(verdict)
    else:
        show_check(verdict)
    ctx.exit(0 if verdict["passed"] else 1)
