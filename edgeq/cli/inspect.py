"""`edgeq inspect`: what is inside a model file, ours or anybody's."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli.shell import print_json

__all__ = ["inspect"]


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--no-run", is_flag=True, help="do not let onnxruntime load the file")
@click.option("--json", "as_json", is_flag=True, help="print everything as JSON on standard output")
def inspect(artifact: Path, no_run: bool, as_json: bool) -> None:
    """Show the ops, types, shapes, scales, sizes and arithmetic of ARTIFACT: a .tflite or .onnx file, or a build.

    \b
    edgeq inspect build/resnet20-tflite-arm
    edgeq inspect theirs.onnx --json

    Files of other converters are welcome: this is how to compare.
    """
    from edgeq.formats.read import inspect as read

    contents = read(artifact, run=not no_run)
    if as_json:
        print_json(contents.to_json())
    else:
        from edgeq.cli.contents import show_contents

        show_contents(contents, artifact)
