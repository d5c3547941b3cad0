"""Read a model file of any format, or the folder of a build, into `Contents`."""

from __future__ import annotations

from pathlib import Path

from edgeq.config.formats import FORMATS, by_suffix, model_names, suffixes
from edgeq.errors import ArtifactError
from edgeq.formats.base import format_class
from edgeq.formats.contents import Contents, Entry
from edgeq.isolation import read_untrusted, run_isolated
from edgeq.limits import check_regular, read_bytes

__all__ = ["find_model", "inspect", "read_entry"]


def find_model(path: Path) -> Path:
    """`path` itself, or the model in a folder that a build left. Raises `ArtifactError` where there is none."""
    if path.is_dir():
        for suffix in suffixes():
            if (path / f"model{suffix}").is_file():
                return path / f"model{suffix}"
        raise ArtifactError(
            f"no model in {path}",
            why=f"neither {' nor '.join(f'model{suffix}' for suffix in suffixes())} is there",
            hint=f"give a build's folder, or a file that ends in {model_names()}",
        )
    if not path.exists():
        raise ArtifactError(f"no such file: {path}")
    check_regular(path)
    return path


def inspect(path: Path, *, run: bool = True) -> Contents:
    """What is inside the model at `path`, told apart by content and not by name.

    `run` also lets onnxruntime load an ONNX file and counts what it made of it. Reads the file in a process of its own.
    Raises `ArtifactError` for anything that is no model.
    """
    return run_isolated(_inspect, find_model(path), run)


def read_entry(path: Path) -> Entry:
    """The first input of the model file at `path`; reads it in a process of its own. Raises `ArtifactError`."""
    return run_isolated(_entry, path)


def _inspect(file: Path, run: bool) -> Contents:
    data = read_bytes(file)
    formats = [(facts, format_class(facts)) for facts in FORMATS.entries()]
    why = ""
    with read_untrusted(f"{file} cannot be read"):
        for facts, form in sorted(formats, key=lambda each: not each[1].MAGIC[1]):  # those that bytes tell apart first
            if not form.may_hold(data):
                continue
            try:
                return form.read(data, run=run)
            except ArtifactError as error:
                if form.MAGIC[1] or facts == by_suffix(file):
                    raise
                why = error.what
        titles = " or ".join(facts.title for facts, _ in formats)
        raise ArtifactError(f"{file} is no {titles} model", why=why)


def _entry(file: Path) -> Entry:
    facts = by_suffix(file)
    data = read_bytes(file)
    with read_untrusted(f"{file} cannot be read"):
        if facts is None:
            raise ArtifactError(f"{file} is no model file", hint=f"its name must end in {model_names()}")
        return format_class(facts).entry(data)
