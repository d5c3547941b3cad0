"""`edgeq show`: a network, or the integers of a build, as a table of nodes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.options import complete_model
from edgeq.cli.shell import echo, print_json
from edgeq.errors import ModelError

if TYPE_CHECKING:
    from edgeq.graph.ir import Graph
    from edgeq.integer.graph import IntegerGraph

__all__ = ["show"]


@click.command()
@click.argument("what", metavar="MODEL|BUILD", shell_complete=complete_model)
@click.option("--weights", help="weights file of MODEL, or 'random'")
@click.option("--input-shape", metavar="C,H,W", help="of one image, where MODEL does not say")
@click.option("--json", "as_json", is_flag=True, help="print as JSON on standard output")
def show(what: str, weights: str | None, input_shape: str | None, as_json: bool) -> None:
    """Show the nodes of a network, or of the integers in a finished build: name, op, shape, grid and bits.

    \b
    edgeq show torchvision:mobilenet_v2 --weights random
    edgeq show build/resnet20-tflite-arm

    MODEL is what edgeq build takes; its nodes are those that are quantized, with batch norms folded. BUILD is the
    folder of a build, or an integer.safetensors.
    """
    graph = _read(what, weights, input_shape)
    if as_json:
        rows = [row.to_json() for row in graph.rows()]
        print_json({"name": graph.name, "inputs": list(graph.inputs), "outputs": list(graph.outputs), "nodes": rows})
    else:
        echo(str(graph))


def _read(what: str, weights: str | None, input_shape: str | None) -> Graph | IntegerGraph:
    from edgeq.integer.graph import IntegerGraph

    path = Path(what)
    path = path / "integer.safetensors" if (path / "integer.safetensors").is_file() else path
    if path.suffix == ".safetensors" and path.is_file():
        return IntegerGraph.load(path)
    from edgeq.api import load
    from edgeq.graph.passes import optimize

    given: dict[str, Any] = {"weights": weights, "input_shape": input_shape}
    try:
        model = load(what, **given)
    except ModelError as error:
        if os.path.lexists(what):
            raise
        hint = f"{error.hint}; or the folder of a build".removeprefix("; or ")
        raise ModelError(error.what, where=error.where, why=error.why, hint=hint) from error
    return optimize(model.graph)
