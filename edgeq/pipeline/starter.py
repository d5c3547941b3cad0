"""The two files that a project with edgeq begins with: a model.toml and an edgeq.toml, every key explained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgeq.config.build import Budget, BuildConfig, Setting, resolve, settings_of
from edgeq.config.settings import expand_home, toml_value
from edgeq.config.tasks import KINDS, UNSCORED
from edgeq.errors import ConfigError, InputError, OccupiedError, WeightsError
from edgeq.files import write_atomic
from edgeq.model.load import IMAGENET_MEAN, IMAGENET_STD, LoadedModel, checkpoint_file, load_model, wrap_module
from edgeq.model.modeltoml import read_model_file
from edgeq.model.pycode import call, import_callable
from edgeq.model.spec import ModelSpec
from edgeq.model.weights import SUFFIXES
from edgeq.scratch import scratch

__all__ = ["Start", "start", "write_start"]

SIDES = (224, 32, 28, 64, 96, 128, 160, 192, 256, 299, 300, 320, 416, 512, 640)
"""Heights and widths that are tried where nobody says the input's size, the usual one first."""

GUESSED = ("mean", "std", "task")
"""What nobody states of a network that could not be run."""

LIBRARIES = ("torchvision:", "timm:", "ultralytics:")


@dataclass(frozen=True)
class Start:
    """The files of a project: text by name, what `edgeq init` found out, and what it had to leave to the user."""

    files: Mapping[str, str]
    known: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()


def start(model: str, output: Path, weights: str | None = None, input_shape: tuple[int, ...] | None = None) -> Start:
    """Compose the files for `model` in the folder `output`; nothing is written.

    A Python factory gets a model.toml; its function is called, and the network is run on zeros to find its input size
    and its outputs. Every other MODEL describes itself, and edgeq.toml names it. Raises `ConfigError`,
    `UnsupportedError` as `load_model` does.
    """
    if ":" not in model or model.startswith(LIBRARIES) or Path(model).exists():
        checkpoint_file(model, weights)  # refuses what is no model; fetches nothing
        named = _from(output, model) if Path(model).exists() else model
        given = {"weights": _weights_from(output, weights), "input_shape": input_shape}
        return Start({"edgeq.toml": _edgeq_toml(named, {k: v for k, v in given.items() if v is not None})})
    found = weights or _weights_beside(model)
    try:
        loaded, tried = _load(model, found, input_shape)
    except WeightsError:
        if weights is not None:
            raise
        found = None  # a file that happens to have the name
        loaded, tried = _load(model, None, input_shape)
    unsure = []
    if loaded is None:
        unsure.append("input shape: the network took none of the usual sizes")
    elif tried:
        unsure.append(f"input shape: {_times(loaded.spec.input_shape)} was tried and taken")
    if loaded is None or set(loaded.spec.assumed) & {"mean", "std"}:
        unsure.append("mean and std: the usual ones")
    if loaded is None or "task" in loaded.spec.assumed:
        unsure.append("task: taken from the shape of the outputs")
    if found is None:
        unsure.append("weights: those that the function itself gives")
    text = _model_toml(model, output, _weights_from(output, found), loaded)
    files = {"model.toml": text, "edgeq.toml": _edgeq_toml("model.toml", {})}
    if loaded is None:
        return Start(files, (), tuple(unsure))
    spec = loaded.spec
    answer = f"{spec.classes} classes" if spec.task == "classification" else spec.task
    return Start(files, (f"{spec.name}: input {_times(spec.input_shape)}, {answer}",), tuple(unsure))


def write_start(begun: Start, output: Path, *, force: bool = False) -> list[Path]:
    """Write the files into `output`, after edgeq's own readers have taken them. Returns their paths.

    Raises `OccupiedError` where one is there and `force` is not given, and `ArtifactError` where `output` cannot be
    written.
    """
    paths = [output / name for name in begun.files]
    there = [path for path in paths if os.path.lexists(path)]
    if there and not force:
        what = " and ".join(map(str, there))
        raise OccupiedError(f"{what} would be replaced", hint="--force replaces, --output names another folder")
    with scratch() as folder:
        for name, text in begun.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        if "model.toml" in begun.files:
            read_model_file(folder / "model.toml")
        resolve({}, {}, folder / "edgeq.toml")
    output.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, begun.files.values(), strict=True):
        write_atomic(path, text)
    return paths


def _load(model: str, weights: str | None, shape: tuple[int, ...] | None) -> tuple[LoadedModel | None, bool]:
    """The network, and whether its input shape is a guess; None where no usual shape fits."""
    try:
        return load_model(model, weights=weights, input_shape=shape), False
    except InputError:
        if shape is not None:
            raise
    module = call(import_callable(model), model, {})
    for side in SIDES:
        guess = (_channels(module), side, side)
        try:
            wrap_module(module, "network", guess)
        except InputError:
            continue
        except ConfigError:  # it runs, but is no network of pictures: let load_model say so
            pass
        return load_model(model, weights=weights, input_shape=guess), True
    return None, True


def _channels(module: nn.Module) -> int:
    """Channels that the network's first convolution reads; 3 where it has none."""
    return next((each.in_channels for each in module.modules() if isinstance(each, nn.Conv2d)), 3)


def _weights_beside(model: str) -> str | None:
    """The checkpoint beside a factory's file that has the name of the file or of the function."""
    source, _, function = model.rpartition(":")
    named = source.endswith(".py") and function.isidentifier()
    stems = (Path(source).with_suffix(""), Path(source).with_name(function)) if named else ()
    files = (stem.with_name(stem.name + suffix) for stem in stems for suffix in SUFFIXES)
    return next((str(file) for file in files if file.is_file()), None)


def _from(folder: Path, path: str) -> str:
    """`path` as a file in `folder` names it."""
    return Path(os.path.relpath(expand_home(path), folder)).as_posix()


def _weights_from(folder: Path, weights: str | None) -> str | None:
    return weights if weights is None or weights == "random" else _from(folder, weights)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _model_toml(model: str, output: Path, weights: str | None, loaded: LoadedModel | None) -> str:
    source, _, function = model.rpartition(":")
    factory = f"{_from(output, source)}:{function}" if source.endswith(".py") else model
    spec = None if loaded is None else loaded.spec
    if spec is None:
        stem = Path(source).stem if source.endswith(".py") else source.rpartition(".")[2]
        spec = ModelSpec(
            f"{stem}-{function}", (3, 224, 224), IMAGENET_MEAN, IMAGENET_STD, classes=1000, assumed=GUESSED
        )
    sure = "  # assumed: write those of training" if {"mean", "std"} & set(spec.assumed) else ""
    counted = [] if spec.task in UNSCORED else [f"classes = {spec.classes}"]
    where = "" if weights else '  # "random" keeps the values that the function gives; name your trained weights here'
    lines = [
        "# The network: what edgeq calls, what goes in, and what comes out. Paths are relative to this file.",
        f"name = {toml_value(spec.name)}",
        "",
        "[network]",
        f"factory = {toml_value(factory)}",
        "# arguments = { num_classes = 10 }  # keyword arguments of the function",
        f"weights = {toml_value(weights or 'random')}{where}",
        "",
        "[input]",
        f"shape = {toml_value(tuple(spec.input_shape))}  # channels, height, width of one image",
        f"mean = {toml_value(tuple(spec.mean))}{sure}",
        f"std = {toml_value(tuple(spec.std))}{sure}",
        f"# resize = {round(spec.input_shape[1] * 8 / 7)}  # of your pictures: the short side, before the centre crop",
        f"# crop = {spec.input_shape[1]}",
        "",
        "[output]",
        f"task = {toml_value(spec.task)}  # {', '.join(KINDS)}",
        *counted,
        '# labels = "labels.txt"  # one per line, in the order of the classes; the file tells them to apps',
        "",
        "# [evaluation]  # labelled images that only measure: an .npz, class folders, a CSV with filename,label",
        '# images = "test.npz"',
    ]
    return "\n".join(lines) + "\n"


def _edgeq_toml(model: str, given: Mapping[str, object]) -> str:
    known = {"model": model, "targets": ("tflite-arm",), **given}
    lines = [
        "# Settings of edgeq build. The command line and EDGEQ_ variables win over this file.",
        "# What is commented out shows its default, or the kind of its value where it has none.",
        "",
        *(f"{name} = {toml_value(value)}" for name, value in known.items()),
        "",
        *(_commented(setting) for name, setting in settings_of(BuildConfig).items() if name not in known),
        "",
        "# What edgeq check demands of the build.",
        "[budget]",
        *(_commented(setting) for setting in settings_of(Budget).values()),
    ]
    return "\n".join(lines) + "\n"


def _commented(setting: Setting) -> str:
    kind = f"<{setting.kind.metavar.strip('[]') or 'true or false'}>"
    value = kind if setting.default in (None, ()) else toml_value(setting.default)
    return f"# {setting.name} = {value}  # {setting.help}"
