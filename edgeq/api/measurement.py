"""What a network, its integers or a file are worth: exactness, accuracy, time, contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
from torch import nn

from edgeq.api import arguments
from edgeq.api.models import Model, load
from edgeq.api.quantization import Images
from edgeq.config.formats import REFERENCE, Rounding
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, evaluation_from_arrays, load_images
from edgeq.data.stated import with_stated_task
from edgeq.errors import ConfigError, ImagesError
from edgeq.formats.contents import Contents
from edgeq.formats.exactness import Exactness
from edgeq.formats.foreign import ForeignSession
from edgeq.formats.read import inspect as inspect_file
from edgeq.formats.replay import replay, verify_against
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.storage import drop_unstorable_bits
from edgeq.measure.tasks import Measured, make_predictor, measure_predictions
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.bench import bench_artifact
from edgeq.pipeline.evaluate import evaluate_artifact, prepare_evaluation
from edgeq.pipeline.ondevice import find_artifact, input_spec

__all__ = ["Data", "bench", "evaluate", "evaluate_on", "inspect", "verify"]


Data = str | Path | EvaluationSet | tuple[npt.NDArray[np.uint8], Any]
"""Labelled images: a path as ``edgeq eval --data`` takes it, or uint8 ``(N, H, W, C)`` and their labels."""


def verify(
    path: str | Path,
    net: IntegerGraph | None = None,
    images: int | Images = 8,
    *,
    seed: int | None = None,
    rounding: Rounding = REFERENCE,
) -> Exactness:
    """Compare every op of a file, as its runtime computes it, with the exact integer reference.

    `path` is the folder of a build, whose own integers and `images` first images are taken; or a ``.tflite`` or
    ``.onnx`` file that was written from `net`, with `images` to run. `seed` draws noise in place of a build's images.
    `rounding` is whose arithmetic an ONNX file is held to. ``found.held`` says whether the file is right. Raises
    `ArtifactError`, `ConfigError`.

    >>> edgeq.verify("net.tflite", net, images).exact
    True
    """
    file = arguments.path(path, "path")
    rounding = cast("Rounding", arguments.choice(rounding, "rounding", get_args(Rounding)))
    seed = arguments.optional_count(seed, "seed", least=0)
    if net is None:
        if not isinstance(images, int | np.integer):
            raise ImagesError("images without a net", why="a build's folder has its own", hint="give their number")
        return replay(file, arguments.count(images, "images"), seed=seed, rounding=rounding)
    arguments.expect(net, IntegerGraph, "net", "must be an IntegerGraph", "edgeq.quantize returns one")
    if isinstance(images, int | np.integer):
        raise ImagesError("no images to verify with", hint="give those that the net was calibrated on")
    given = images.inputs if isinstance(images, CalibrationSet) else images
    inputs = arguments.real_images(given, net.shapes[net.inputs[0]][1:], "the net")
    return verify_against(drop_unstorable_bits(net), file, inputs, rounding=rounding)


def evaluate(
    what: Model | IntegerGraph | str | Path,
    data: Data | None = None,
    *,
    model: Model | str | None = None,
    limit: int | None = None,
    raw_pixels: bool = False,
) -> Measured:
    """Measure the accuracy of a float network, of exact integers, or of a file or build on this machine.

    `data` are labelled images; None takes those that the model or the build names. `model` says how images become the
    input where `what` does not: for an `IntegerGraph` and for a file alone. `limit` takes that many images, evenly
    spaced. `raw_pixels`: the file takes pixels as they are. The result has `score` in percent, and for a classifier
    `top1`, `top5` and the `predictions`; of a regressor or an embedding, `to_json()` has the errors. Raises
    `ConfigError`, `ArtifactError`, `MeasurementError`.

    >>> edgeq.evaluate(net, "test.npz", model=model).top1
    91.2
    """
    kinds, must = (Model, IntegerGraph, str, Path), "must be a Model, an IntegerGraph, or the path of a file or build"
    arguments.expect(what, kinds, "what", must, "edgeq.trace(module, input_shape) makes a Model")
    limit = arguments.optional_count(limit, "limit")
    known = model if model is None or isinstance(model, Model) else load(model)
    if isinstance(what, Model):
        known = what
    if isinstance(what, str | Path):
        file = arguments.path(what, "what")
        artifact = find_artifact(file)
        spec, where = _preparation(file, known, data)
        spec = _stated(spec, where)
        spec = input_spec(artifact, spec, raw_pixels)
        labelled = _evaluation(where, spec, limit)
        with ForeignSession(artifact.model, spec.input_shape[0]) as session:
            return measure_predictions(
                lambda inputs: session.real_outputs(session.run(inputs)[1]),
                labelled.batches(spec),
                spec,
                whose=artifact.name,
            )
    if known is None:
        raise ConfigError("no model", why="integers do not say how images become their input", hint="give model=")
    where = data if data is not None else known.spec.evaluation
    spec = _stated(known.spec, where)
    labelled = _evaluation(where, spec, limit)
    if isinstance(what, Model):
        module = what.loaded.module
        run = make_predictor(module if isinstance(module, nn.Module) else GraphModule(what.graph).eval())
    else:
        run = make_predictor(what)
    return measure_predictions(run, labelled.batches(spec), spec)


def evaluate_on(
    path: str | Path,
    device: str = "local",
    data: str | Path | None = None,
    *,
    model: str | None = None,
    raw_pixels: bool = False,
    runtime: str | None = None,
    limit: int | None = None,
    threads: int = 1,
    timeout: float = 3600.0,
    wait: float = 0.0,
    benchmark_model: str | Path | None = None,
) -> Mapping[str, Any]:
    """Run a file or build over labelled images on `device` and here: ``edgeq eval``, with its options.

    Returns what ``edgeq eval --json`` prints: accuracy there and here, agreement, and how many output values are equal.
    `timeout` and `wait` are seconds. Raises `DeviceError`, `ConfigError`, `ArtifactError`.

    >>> edgeq.evaluate_on("build/resnet20-tflite-arm", "pi@raspberrypi")["agreement"]
    1.0
    """
    where = data if isinstance(data, str) else arguments.optional_path(data, "data")
    return evaluate_artifact(
        arguments.path(path, "path"),
        arguments.text(device, "device"),
        data=None if where is None else str(where),
        model=arguments.optional_text(model, "model"),
        raw=raw_pixels,
        runtime=arguments.optional_text(runtime, "runtime"),
        limit=arguments.optional_count(limit, "limit"),
        threads=arguments.threads(threads),
        timeout=arguments.seconds(timeout, "timeout"),
        wait=arguments.seconds(wait, "wait"),
        program=arguments.optional_path(benchmark_model, "benchmark_model"),
    )


def bench(
    path: str | Path,
    device: str = "local",
    *,
    runtime: str | None = None,
    threads: int = 1,
    seconds: float = 4.0,
    cooldown: float = 0.0,
    timeout: float = 900.0,
    wait: float = 0.0,
    benchmark_model: str | Path | None = None,
) -> Mapping[str, Any]:
    """Time a file, or the integer and the float file of a build in turns, on `device`: ``edgeq bench``.

    Returns one row of what ``edgeq bench --json`` prints. ``valid`` says whether the times may be believed, ``doubts``
    says why not. `seconds` is given to each measurement; `cooldown`, `timeout` and `wait` are seconds, too. Raises
    `DeviceError`, `ConfigError`, `ArtifactError`.

    >>> edgeq.bench("build/resnet20-tflite-arm", "pi@raspberrypi")["latency"]["integer_median_ms"]
    3.1
    """
    return bench_artifact(
        arguments.path(path, "path"),
        arguments.text(device, "device"),
        runtime=arguments.optional_text(runtime, "runtime"),
        threads=arguments.threads(threads),
        seconds=arguments.seconds(seconds, "seconds"),
        cooldown=arguments.seconds(cooldown, "cooldown"),
        timeout=arguments.seconds(timeout, "timeout"),
        wait=arguments.seconds(wait, "wait"),
        program=arguments.optional_path(benchmark_model, "benchmark_model"),
    )


def inspect(path: str | Path, *, run: bool = True) -> Contents:
    """Read the ops, types, shapes, scales and sizes of any ``.tflite`` or ``.onnx`` file, or of a build's model.

    `run` also lets onnxruntime load an ONNX file and counts what it makes of it. Raises `ArtifactError`.

    >>> edgeq.inspect("theirs.onnx").macs
    41000000
    """
    return inspect_file(arguments.path(path, "path"), run=run)


def _preparation(path: Path, known: Model | None, data: Data | None) -> tuple[ModelSpec, Data | None]:
    if known is not None:
        return known.spec, data if data is not None else known.spec.evaluation
    if data is None or isinstance(data, str | Path):
        return prepare_evaluation(path, None, None if data is None else str(data))
    return prepare_evaluation(path, None, "given")[0], data


def _stated(spec: ModelSpec, data: Data | None) -> ModelSpec:
    """`spec` with the task that `data` is for, where its own was only assumed."""
    if isinstance(data, str | Path):
        return with_stated_task(spec, data)
    return with_stated_task(spec, data[1]) if isinstance(data, tuple | list) and len(data) == 2 else spec


def _evaluation(data: Data | None, spec: ModelSpec, limit: int | None) -> EvaluationSet:
    if data is None:
        raise ImagesError("no labelled images", hint="give data, such as test.npz")
    if isinstance(data, str | Path):
        return load_images(arguments.path(data, "data"), spec, limit)
    evaluation = data if isinstance(data, EvaluationSet) else _pair(data, spec)
    return evaluation if limit is None else evaluation.part(limit)


def _pair(data: Any, spec: ModelSpec) -> EvaluationSet:
    must = "must be a path, an EvaluationSet, or a pair of uint8 images (N, H, W, C) and their labels"
    if not isinstance(data, tuple | list) or len(data) != 2:
        kind = f"{type(data).__name__} of {len(data)}" if isinstance(data, tuple | list) else type(data).__name__
        raise ConfigError(f"data is a {kind}", why=must)
    images, truths = data
    if spec.task == "classification":
        truths = arguments.array(truths, "labels")
    return evaluation_from_arrays(arguments.array(images, "images", must), truths, spec)
