"""`edgeq init`: a commented model.toml and edgeq.toml for a network; asks nothing."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli.options import complete_model
from edgeq.cli.shell import echo, print_json
from edgeq.config.settings import SHAPE

__all__ = ["init"]


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option("--weights", help="weights file [default: one beside FILE.py with its name]")
@click.option("--input-shape", metavar="C,H,W", help="of one image [default: what the network says, else tried]")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(), help="folder to write [default: here]")
@click.option("--force", is_flag=True, help="replace files that are there")
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def init(model: str, weights: str | None, input_shape: str | None, output: Path, force: bool, as_json: bool) -> None:
    """Write a commented model.toml and edgeq.toml for MODEL. edgeq build then needs no arguments.

    \b
    edgeq init net.py:make
    edgeq init net.py:make --weights net.pth --input-shape 3,32,32 --output project
    edgeq init torchvision:mobilenet_v2

    MODEL is what edgeq build takes. Of a Python function the network is made and run once, on zeros, to find out what
    goes in and what comes out; what had to be guessed is listed. Nothing is asked, and no file is replaced without
    --force.
    """
    from edgeq.pipeline.starter import start, write_start  # loads torch, which help does without

    shape = None if input_shape is None else SHAPE.parse(input_shape, "--input-shape")
    begun = start(model, output, weights, shape)
    paths = write_start(begun, output, force=force)
    if as_json:
        print_json({"files": [str(path) for path in paths], "known": begun.known, "unsure": begun.unsure})
        return
    echo(f"wrote {' and '.join(map(str, paths))}")
    for line in begun.known:
        echo(f"  {line}")
    for line in begun.unsure:
        echo(f"  check: {line}")
    where = "" if output == Path() else f" --config {paths[-1]}"
    echo(f"next: edgeq build{where} --plan")
