"""model.toml: a network described in a file, and the folder of networks that ship with edgeq. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from edgeq.config.resources import data_folder
from edgeq.config.settings import expand_home
from edgeq.config.tasks import UNSCORED, Kind
from edgeq.config.tomlfile import expand, read_toml
from edgeq.config.typed import Count, Name, Number, Positive, read
from edgeq.errors import ArtifactError, ConfigError, InputError, ModelError, TomlError
from edgeq.limits import read_text
from edgeq.model.spec import ModelSpec, as_picture
from edgeq.model.tasks import read_task, task_table
from edgeq.registry import nearest

__all__ = [
    "DEFAULT_MODEL",
    "ModelFile",
    "read_model_file",
    "read_spec",
    "shipped_model",
    "shipped_models",
    "spec_tables",
]

DEFAULT_MODEL = "signs-mobilenetv2"
"""What `edgeq build` builds where nobody names a model."""


@dataclass(frozen=True)
class ModelFile:
    """A parsed model.toml: `factory` is ``file.py:callable`` (absolute path) or ``package.module:callable``."""

    path: Path
    spec: ModelSpec
    factory: str
    arguments: Mapping[str, Any]
    weights: Path


def shipped_models() -> list[str]:
    """Names of the networks in `models/`, sorted."""
    return sorted(path.parent.name for path in data_folder("models").glob("*/model.toml"))


def shipped_model(name: str) -> Path:
    """The model.toml of a shipped network. Raises `ConfigError` with the nearest name."""
    names = shipped_models()
    if name not in names:
        hint = nearest(name, names) if names else "no models are installed"
        raise ModelError(
            f"unknown model {name!r}",
            hint=f"{hint}; or give torchvision:NAME, timm:NAME, a model.toml, file.py:factory, or a .pt2",
        )
    return data_folder("models") / name / "model.toml"


class _Network(msgspec.Struct):
    factory: Name
    weights: Name
    arguments: dict[str, Any] = {}  # msgspec copies it


class _Input(msgspec.Struct):
    shape: tuple[int, ...]
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    resize: Positive | None = None
    crop: Positive | None = None


class _Output(msgspec.Struct):
    """Regression and embeddings have no classes; the others must say how many."""

    task: Kind
    classes: Positive | None = None
    labels: tuple[Name, ...] | Name = ()


class _SpecOutput(msgspec.Struct):
    """A network of no known number of outputs has ``classes = 0``. `assumed`: nobody stated the task."""

    task: Kind
    classes: Count = 0
    labels: tuple[Name, ...] = ()
    assumed: bool = False


class _Evaluation(msgspec.Struct):
    images: Name


class _File(msgspec.Struct):
    name: Name
    network: _Network
    input: _Input
    output: _Output
    task: dict[str, Any] | None = None
    evaluation: _Evaluation | None = None


class _Spec(msgspec.Struct):
    name: Name
    input: _Input
    output: _SpecOutput
    task: dict[str, Any] | None = None
    evaluation: _Evaluation | None = None


def read_model_file(path: Path) -> ModelFile:
    """Parse and check a model.toml; relative paths in it are relative to its folder, ``${NAME}`` is expanded."""
    folder, where = path.parent, str(path)
    file = read(read_toml(path), _File, where)
    evaluation = (
        None if file.evaluation is None else str(_beside(file.evaluation.images, folder, f"{where} [evaluation]"))
    )
    return ModelFile(
        path=path,
        spec=_spec_of(file, where, _labels(file.output.labels, folder, f"{where} [output]"), evaluation),
        factory=_factory(file.network.factory, folder, f"{where} [network]"),
        arguments=file.network.arguments,
        weights=_weights(file.network.weights, folder, f"{where} [network]"),
    )


def read_spec(tables: Mapping[str, Any], where: str) -> ModelSpec:
    """The spec that the tables of `spec_tables` make. Opens no file. Raises `ConfigError`, which says `where`."""
    contents = read(tables, _Spec, where)
    evaluation = None if contents.evaluation is None else contents.evaluation.images
    spec = _spec_of(contents, where, contents.output.labels, evaluation)
    return replace(spec, assumed=("task",)) if contents.output.assumed else spec


def _spec_of(file: _File | _Spec, where: str, labels: tuple[str, ...], evaluation: str | None) -> ModelSpec:
    pixels, task, classes = file.input, file.output.task, file.output.classes
    if classes is None and task not in UNSCORED:
        raise TomlError(f"task = {task!r} without classes", where=f"{where} [output]", hint="add classes = N")
    classes = classes or 0
    try:
        return ModelSpec(
            name=file.name,
            input_shape=as_picture(pixels.shape),  # type: ignore[arg-type]  # ModelSpec checks that there are three
            mean=pixels.mean,
            std=pixels.std,
            resize=pixels.resize,
            crop=pixels.crop,
            task=task,
            classes=classes,
            labels=labels,
            dense=None if file.task is None else read_task(file.task, f"{where} [task]", task, classes),
            evaluation=evaluation,
        )
    except ConfigError as error:
        raise error.at(where) from error


def spec_tables(spec: ModelSpec) -> dict[str, Any]:
    """The tables of a model.toml that say what `spec` says, but for its evaluation images: data for JSON."""
    optional = {"resize": spec.resize, "crop": spec.crop}
    tables: dict[str, Any] = {
        "name": spec.name,
        "input": {"shape": list(spec.input_shape), "mean": list(spec.mean), "std": list(spec.std)}
        | {key: value for key, value in optional.items() if value is not None},
        "output": {"task": spec.task, "classes": spec.classes}
        | ({"labels": list(spec.labels)} if spec.labels else {})
        | ({"assumed": True} if "task" in spec.assumed else {}),
    }
    if spec.dense is not None:
        tables["task"] = task_table(spec.task, spec.dense)
    return tables


def _labels(labels: tuple[str, ...] | str, folder: Path, where: str) -> tuple[str, ...]:
    """Names of the classes: in place, or one per line of a file beside this one; none where nothing names them."""
    if isinstance(labels, tuple):
        return labels
    path = _beside(labels, folder, where)
    try:
        lines = read_text(path).splitlines()
    except ArtifactError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path}", where=where, why=str(error)) from error
    return tuple(line.strip() for line in lines if line.strip())


def _beside(text: str, folder: Path, where: str) -> Path:
    return folder / expand_home(expand(text, where))


def _weights(text: str, folder: Path, where: str) -> Path:
    """The file of the weights; ``random`` is none, wherever the model.toml lies."""
    return Path(text) if text == "random" else _beside(text, folder, where)


def _factory(text: str, folder: Path, where: str) -> str:
    text = expand(text, where)
    source, colon, function = text.rpartition(":")
    if not colon or not source or not function.isidentifier():
        raise TomlError(f"factory = {text!r}", where=where, why="must be file.py:callable or package.module:callable")
    return f"{folder / source}:{function}" if source.endswith(".py") else text
