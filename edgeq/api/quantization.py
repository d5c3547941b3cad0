"""From a network to calibration images, to integers, to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.api.arguments import choice, expect, optional_text, real_images
from edgeq.api.arguments import path as path_of
from edgeq.api.models import Model
from edgeq.api.options import parse_option, settings, workspace
from edgeq.cache import StageCache
from edgeq.config.build import BuildConfig
from edgeq.config.formats import by_suffix, model_names
from edgeq.config.targets import load_target
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, LabelsError
from edgeq.files import write_atomic
from edgeq.finetune.settings import METHODS
from edgeq.formats.base import format_of
from edgeq.graph.passes import optimize
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.storage import drop_unstorable_bits
from edgeq.pipeline.choices import check_method, choose_method, file_types
from edgeq.pipeline.finetune import check_tuning, finetune_graph
from edgeq.pipeline.prepare import Job, open_job, prepare
from edgeq.pipeline.recipe import whole_recipe
from edgeq.pipeline.synth import forbidden_images, synth
from edgeq.pipeline.synthesis import synthesize as run_synthesis
from edgeq.progress import Logged
from edgeq.quant.quantize import quantize as quantize_graph
from edgeq.threads import choose, work_with

__all__ = ["Images", "finetune", "quantize", "synthesize", "write"]


Images = CalibrationSet | npt.NDArray[np.float32]
Recipe = str | Sequence[str] | Mapping[str, Any]
"""Calibration images: a `CalibrationSet`, or normalised float32 ``(N, C, H, W)``."""


def synthesize(
    model: Model,
    method: str = "auto",
    count: int = 32,
    *,
    bits: str = "w8a8",
    seed: int = 0,
    effort: str = "balanced",
    recipe: Recipe = (),
    threads: int | None = None,
    cache: str | Path | None = None,
    output: str | Path | None = None,
) -> CalibrationSet:
    """Make `count` calibration images from the network alone, or take them from ``images:PATH``.

    `edgeq methods` lists the methods; ``auto`` chooses by whether there are batch norms. `bits` are those that the
    network will have: for weights of few bits the images fit more closely. `effort` is ``fast``,
    ``balanced`` or ``best``; `recipe` replaces settings of it, as ``{"gznq": {"fine": 60}}`` or as ``edgeq build
    --recipe`` takes them. `cache` is a folder of finished stages, shared with builds; None keeps nothing. With
    `output`, the folder that ``edgeq synth`` writes is written there, too. Raises `ConfigError`, `UnsupportedError`.

    >>> images = edgeq.synthesize(model, "gznq", count=128)
    """
    _expect_model(model)
    given = {"method": method, "images": count, "seed": seed, "effort": effort, "recipe": recipe, "threads": threads}
    given |= {"bits": bits, "output": output}
    with workspace(cache) as folder:
        config = replace(settings({**model.given, **given}).config, cache=folder)
        if config.output is not None:
            synth(config, Logged(), model.loaded)
            return CalibrationSet.load(config.output / "calibration.npz")
        check_method(config.method)
        torch.manual_seed(config.seed)
        work_with(choose(config.threads, model.graph.macs(), config.images))
        chosen, _ = choose_method(config.method, model.graph)
        whole_recipe(config, chosen, "", model.graph)
        forbidden = forbidden_images(config, model.loaded, chosen)
        stages = StageCache(folder, Logged())
        return run_synthesis(config, model.loaded, model.graph, chosen, stages, forbidden=forbidden)[1]


def quantize(
    model: Model,
    images: Images,
    bits: str = "w8a8",
    target: str = "tflite-arm",
    *,
    layer_bits: Sequence[str] | Mapping[str, str] = (),
    all_layers: bool = False,
    observer: str = "mse",
    io: str | None = None,
    raw_pixels: str | None = None,
    threads: int | None = None,
) -> IntegerGraph:
    """Turn the network into integers, with ranges from `images`. ``print`` the result to see its ops and grids.

    `bits` are of weights and activations, such as ``w4a8``; `layer_bits` gives some layers others, as a mapping from
    module path to bits. The options are those of ``edgeq build``. Below 8 bits of activations the result holds what was
    requested, which a file cannot; see `edgeq.integer.storage`. Raises `ConfigError`, `UnsupportedError`.

    >>> net = edgeq.quantize(model, images, bits="w4a8", target="tflite-arm")
    """
    options = {
        "bits": bits,
        "target": target,
        "layer_bits": layer_bits,
        "all_layers": all_layers,
        "observer": observer,
        "io": io,
        "raw_pixels": raw_pixels,
        "threads": threads,
    }
    _expect_model(model)
    with workspace(None) as folder:
        job = _job(model, options, folder)
        calibration = _calibration(images, model)
        if job.input_transform.form == "weights":
            calibration = job.input_transform.images(calibration)
        net = quantize_graph(
            job.quantized_graph, calibration, job.input_range, job.scheme, observer=job.config.observer, specs=job.specs
        )
        return job.input_transform.integers(net, job.scheme.widest_weights)


def finetune(
    model: Model,
    images: Images,
    bits: str = "w4a4",
    target: str = "tflite-arm",
    *,
    method: str = "kd",
    effort: str = "balanced",
    recipe: Recipe = (),
    precision: str = "float32",
    layer_bits: Sequence[str] | Mapping[str, str] = (),
    all_layers: bool = False,
    observer: str = "mse",
    io: str | None = None,
    raw_pixels: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    cache: str | Path | None = None,
) -> IntegerGraph:
    """Train the quantized network to answer as the float one does, without data, and turn it into integers.

    `method` is ``kd``, ``zaq`` or ``dfq-akd`` (docs/how-to/finetune.md). A fifth of `images` judges and the rest
    trains, so give 160 or more; 5 is the least. With a `cache` folder an interrupted run goes on where it stood. The
    other arguments are those of `quantize`. Raises `MeasurementError` when training diverges, `ConfigError`,
    `UnsupportedError`.

    >>> net = edgeq.finetune(model, images, bits="w4a4", method="kd", effort="fast")
    """
    options = {
        "bits": bits,
        "target": target,
        "finetune": choice(method, "method", METHODS),
        "effort": effort,
        "recipe": recipe,
        "precision": precision,
        "layer_bits": layer_bits,
        "all_layers": all_layers,
        "observer": observer,
        "io": io,
        "raw_pixels": raw_pixels,
        "seed": seed,
        "threads": threads,
    }
    _expect_model(model)
    with workspace(cache) as folder:
        calibration = _calibration(images, model)
        job = _job(model, options, folder)
        check_tuning(job)
        torch.manual_seed(job.config.seed)
        frozen = finetune_graph(job, calibration, StageCache(folder, Logged()))
        return job.input_transform.integers(frozen.value, job.scheme.widest_weights)


def write(
    net: IntegerGraph | Model,
    path: str | Path,
    *,
    target: str | None = None,
    io: str | None = None,
    weight_storage: str | None = None,
) -> Path:
    """Write a ``.tflite`` or ``.onnx`` file and return its path. A `Model` is written in float32.

    `target` decides types; by default it is ``tflite-arm`` or ``onnx-arm``. `io` is the type of inputs and outputs,
    `weight_storage` that of weights of four bits or fewer (int8 or int4). Raises `ConfigError`, `UnsupportedError`,
    `ArtifactError`.

    >>> edgeq.write(net, "net.tflite")
    """
    file = path_of(path, "path")
    hint = "edgeq.quantize(model, images) gives the integers"
    expect(net, (IntegerGraph, Model), "net", "must be an IntegerGraph or a Model", hint)
    facts = by_suffix(file)
    if facts is None:
        raise ConfigError(f"{file} is no name of a model file", hint=f"end it in {model_names()}")
    chosen = load_target(optional_text(target, "target") or facts.target)
    io, weight_storage = (
        parse_option(BuildConfig, "io", io),
        parse_option(BuildConfig, "weight_storage", weight_storage),
    )
    if isinstance(net, Model):
        file_format = format_of(chosen, 8)
        data = file_format.write_float(optimize(net.graph))
    else:
        written = drop_unstorable_bits(net)
        kinds = written.activation_types
        grids = (written.quantizations[name] for name in written.constants)
        file_format = format_of(chosen, max((grid.bits or 8 for grid in grids if grid.dtype == "int8"), default=8))
        data = file_format.write(written, *file_types(chosen, io, weight_storage, kinds))
    if file_format.suffix != file.suffix:
        raise ConfigError(f"{file} for {chosen.name}", why=f"its files end in {file_format.suffix}")
    write_atomic(file, data)
    return file


def _job(model: Model, options: Mapping[str, Any], folder: Path) -> Job:
    """What `quantize` and `finetune` work on; nothing is written outside `folder`."""
    config = settings({**model.given, **options}).config
    config = replace(config, cache=folder, output=folder / "none")
    return prepare(open_job(config, model.loaded), Logged(), raw=model.graph)


def _expect_model(model: Any) -> None:
    hint = "edgeq.load(name) or edgeq.trace(module, input_shape) makes one"
    expect(model, Model, "model", "must be a Model", hint)


def _calibration(images: Images, model: Model) -> CalibrationSet:
    given = images.inputs if isinstance(images, CalibrationSet) else images
    inputs = real_images(given, model.spec.input_shape, model.spec.name)
    if isinstance(images, CalibrationSet):
        if np.shape(images.labels) != (len(inputs),):
            raise LabelsError(
                f"labels of the images are {list(np.shape(images.labels))}", why=f"must be ({len(inputs)},)"
            )
        return replace(images, inputs=inputs)
    return CalibrationSet(inputs, np.full(len(inputs), -1, np.int64), "given")
