"""model.toml: a network described in a file, and the folder of networks that ship with edgeq. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.config.resources import data_folder
from edgeq.config.tomlfile import Table, expand, read_toml
from edgeq.errors import ArtifactError, ConfigError
from edgeq.limits import read_text
from edgeq.model.spec import TASKS, ModelSpec
from edgeq.model.tasks import read_task, task_table
from edgeq.registry import nearest

__all__ = [
    "DEFAULT_MODEL", "ModelFile", "read_model_file", "read_spec", "shipped_model", "shipped_models", "spec_tables",
]  # fmt: skip

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
        raise ConfigError(
            f"unknown model {name!r}",
            hint=f"{hint}; or give torchvision:NAME, timm:NAME, a model.toml, file.py:factory, or a .pt2",
        )
    return data_folder("models") / name / "model.toml"


def read_model_file(path: Path) -> ModelFile:
    """Parse and check a model.toml; relative paths in it are relative to its folder, ``${NAME}`` is expanded."""
    root = read_toml(path).only("name", "network", "input", "output", "task", "evaluation")
    network = root.table("network").only("factory", "arguments", "weights")
    return ModelFile(
        path=path,
        spec=_spec(root, path.parent),
        factory=_factory(network, path.parent),
        arguments=network.table("arguments").data if "arguments" in network else {},
        weights=_beside(network, "weights", path.parent),
    )


def _spec(root: Table, folder: Path) -> ModelSpec:
    evaluation = None
    if "evaluation" in root:
        evaluation = str(_beside(root.table("evaluation").only("images"), "images", folder))
    output = root.table("output").only(*_OUTPUT)
    output.integer("classes")  # at least one, which `read_spec` does not ask for
    return read_spec(root, evaluation=evaluation, labels=_labels(output, folder))


_OUTPUT = ("task", "classes", "labels")


def spec_tables(spec: ModelSpec) -> dict[str, Any]:
    """The tables of a model.toml that say what `spec` says, but for its evaluation images: data for JSON."""
    optional = {"resize": spec.resize, "crop": spec.crop}
    tables: dict[str, Any] = {
        "name": spec.name,
        "input": {"shape": list(spec.input_shape), "mean": list(spec.mean), "std": list(spec.std)}
        | {key: value for key, value in optional.items() if value is not None},
        "output": {"task": spec.task, "classes": spec.classes} | ({"labels": list(spec.labels)} if spec.labels else {}),
    }
    if spec.dense is not None:
        tables["task"] = task_table(spec.task, spec.dense)
    return tables


def read_spec(root: Table, *, evaluation: str | None, labels: tuple[str, ...] | None = None) -> ModelSpec:
    """The spec that the tables of a model.toml, or `spec_tables`, make. Opens no file. Raises `ConfigError`.

    `labels` None takes those in the table itself. A network of no known number of outputs has ``classes = 0``.
    """
    pixels = root.table("input").only("shape", "mean", "std", "resize", "crop")
    output = root.table("output").only(*_OUTPUT)
    task, classes = output.choice("task", TASKS), output.integer("classes", 0)
    if labels is None:
        labels = output.texts("labels") if "labels" in output else ()
    try:
        return ModelSpec(
            name=root.text("name"),
            input_shape=pixels.integers("shape"),  # type: ignore[arg-type]  # ModelSpec checks that there are three
            mean=pixels.numbers("mean"),
            std=pixels.numbers("std"),
            resize=pixels.integer("resize") if "resize" in pixels else None,
            crop=pixels.integer("crop") if "crop" in pixels else None,
            task=task,
            classes=classes,
            labels=labels,
            dense=read_task(root.table("task"), task, classes) if "task" in root else None,
            evaluation=evaluation,
        )
    except ConfigError as error:
        raise (
            error if error.where else ConfigError(error.what, where=root.where, why=error.why, hint=error.hint)
        ) from error


def _labels(output: Table, folder: Path) -> tuple[str, ...]:
    """Names of the classes: in place, or one per line of a file beside this one; none where nothing names them."""
    if "labels" not in output:
        return ()
    if isinstance(output.data["labels"], list):
        return output.texts("labels")
    path = _beside(output, "labels", folder)
    try:
        lines = read_text(path).splitlines()
    except ArtifactError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"labels {path}", where=output.where, why=str(error)) from error
    return tuple(line.strip() for line in lines if line.strip())


def _beside(table: Table, key: str, folder: Path) -> Path:
    return folder / Path(expand(table.text(key), table.where)).expanduser()


def _factory(table: Table, folder: Path) -> str:
    text = expand(table.text("factory"), table.where)
    source, colon, function = text.rpartition(":")
    if not colon or not source or not function.isidentifier():
        raise ConfigError(
            f"factory = {text!r}", where=table.where, why="must be file.py:callable or package.module:callable"
        )
    return f"{folder / source}:{function}" if source.endswith(".py") else text
