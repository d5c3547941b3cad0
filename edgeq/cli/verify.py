"""`edgeq verify`: replay a build op by op; exit 0 when every integer is the right one."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from edgeq.cli.shell import echo, print_json
from edgeq.config.formats import REFERENCE, Rounding
from edgeq.errors import ArtifactError

if TYPE_CHECKING:
    from edgeq.formats.exactness import Exactness

__all__ = ["verify"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-n", "--images", type=click.IntRange(1), default=8, show_default=True, help="how many images")
@click.option(
    "--random",
    "seed",
    type=click.IntRange(0),
    metavar="SEED",
    help="noise from SEED, not the build's calibration images",
)
@click.option(
    "--rounding",
    type=click.Choice(get_args(Rounding)),
    default=REFERENCE,
    show_default=True,
    help="whose arithmetic an ONNX file is held to: the exact reference's (one step is allowed), or its own runtime's",
)
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON on standard output")
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    folder: Path,
    images: int,
    seed: int | None,
    rounding: Rounding,
    as_json: bool,
) -> None:
    """Replay the build in DIR op by op against the exact reference, and name the first op that differs.

    \b
    edgeq verify build/resnet20-tflite-arm
    edgeq verify build/resnet20-onnx-x86 --rounding onnxruntime --random 0

    A .tflite must compute every integer exactly. onnxruntime rounds its own way: against the reference each value may
    be one step off, with --rounding onnxruntime none may. Exit 0 when that holds, 1 when not.
    """
    from edgeq.formats.replay import replay

    exactness = replay(folder, images, seed=seed, rounding=rounding)
    changed = _find_changed_file(folder)
    held = exactness.held and not changed
    if as_json:
        facts = {
            "images": images,
            "allowed_steps": exactness.allowed_step,
            "changed_since_build": changed,
            "passed": held,
        }
        print_json(dataclasses.asdict(exactness) | facts)
    else:
        _show(exactness, held)
        if changed:
            echo(f"{changed} is not the file that report.json describes: it was changed after the build")
    ctx.exit(0 if held else 1)


def _find_changed_file(folder: Path) -> str | None:
    """The name of the model, where it is not the file whose hash the build wrote into its report.

    A few images cannot show every change: a weight may matter on others only. A folder without a readable report has
    nothing to compare with.
    """
    from edgeq.formats.read import find_model
    from edgeq.report.check import read_report

    model = find_model(folder)
    try:
        expected = read_report(folder)["artifact"]["sha256"]
    except (ArtifactError, LookupError, TypeError):
        return None
    return None if hashlib.sha256(model.read_bytes()).hexdigest() == expected else model.name


def _show(exactness: Exactness, held: bool) -> None:
    echo(
        f"{exactness.equal:,} of {exactness.values:,} values equal ({exactness.reference}), "
        f"largest step {exactness.max_step}"
    )
    width = max(len(name) for name in exactness.per_op)
    for name, (values, equal, step) in exactness.per_op.items():
        if equal != values:
            echo(f"  {name.ljust(width)}  {values - equal:,} of {values:,} differ, by {step} at most")
    if exactness.first_difference:
        echo(f"first difference  {exactness.first_difference}")
    steps = exactness.allowed_step
    if steps and exactness.first_wrong is not None:
        echo(f"first op beyond one step  {exactness.first_wrong[0]}")
    allowed = "; one step is allowed" if steps else ""
    echo(f"{'passed' if held else 'failed'}{allowed}")
