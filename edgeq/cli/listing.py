"""`edgeq targets`, `models`, `methods`, `version`: what there is to choose from."""

from __future__ import annotations

import dataclasses
import platform
from importlib import metadata
from typing import Any

import click

from edgeq.cli.shell import columns, print_json

__all__ = ["find_installed", "methods", "models", "targets", "version"]

_json = click.option("--json", "as_json", is_flag=True, help="print as JSON")


@click.command()
@_json
def targets(as_json: bool) -> None:
    """List targets: what --target takes, and what each sets.

    \b
    edgeq targets
    edgeq targets --json
    """
    from edgeq.config.targets import targets as all_targets

    shipped = all_targets()
    if as_json:
        print_json([dataclasses.asdict(target) for target in shipped])
        return
    rows = [[t.name, t.format, f"activations {t.activations}", f"I/O {t.io}", t.description] for t in shipped]
    columns(rows)


@click.command()
@_json
def models(as_json: bool) -> None:
    """List the models that ship with edgeq.

    \b
    edgeq models
    edgeq models --json
    """
    from edgeq.model.modeltoml import DEFAULT_MODEL, read_model_file, shipped_model, shipped_models

    rows: list[dict[str, Any]] = []
    for name in shipped_models():
        spec = read_model_file(shipped_model(name)).spec
        rows.append(
            {
                "name": name,
                "default": name == DEFAULT_MODEL,
                "input_shape": list(spec.input_shape),
                "task": spec.task,
                "classes": spec.classes,
            }
        )
    if as_json:
        print_json(rows)
        return
    columns(
        [
            [
                r["name"],
                "x".join(map(str, r["input_shape"])),
                r["task"],
                f"{r['classes']} classes",
                "default" if r["default"] else "",
            ]
            for r in rows
        ]
    )


@click.command()
@_json
def methods(as_json: bool) -> None:
    """List where calibration images can come from: what --method takes, what each needs and what it uses.

    \b
    edgeq methods
    edgeq methods --json
    """
    from edgeq.synth.methods import methods as all_methods

    rows = all_methods()
    if as_json:
        print_json([dataclasses.asdict(method) for method in rows])
        return
    words = {True: "yes", False: "no", None: "?"}
    head = ["method", "batch norm", "labels", "data used", "what it is"]
    columns([head] + [[m.name, words[m.batch_norm], words[m.labels], m.data, m.what] for m in rows])


def find_installed() -> dict[str, str]:
    """Versions of edgeq, Python and the packages that compute, where they are installed."""
    versions = {"edgeq": metadata.version("edgeq"), "python": platform.python_version()}
    for package in ("torch", "torchvision", "onnx", "onnxruntime", "ai-edge-litert", "tflite-runtime", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@click.command()
@_json
def version(as_json: bool) -> None:
    """Print the versions of edgeq and of what it stands on.

    \b
    edgeq version
    edgeq version --json
    """
    versions = find_installed()
    if as_json:
        print_json(versions)
        return
    columns([[name, number] for name, number in versions.items()])
