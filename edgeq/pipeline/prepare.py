"""From settings to a job: the target, the network, what its input will mean, and refusals before any long work.

`build` and `plan` begin with the same two steps, and so does the Python API. `open_job` reads what settings name;
`prepare` captures the network and decides what follows from its graph.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edgeq.config.build import BuildConfig
from edgeq.config.targets import Target, load_target
from edgeq.data.stated import with_stated_task
from edgeq.errors import UnsupportedError
from edgeq.files import check_replaceable
from edgeq.graph.capture.walk import capture, capture_program
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.model.load import LoadedModel, load_model
from edgeq.pipeline.choices import (
    check_method,
    choose_input_transform,
    choose_method,
    choose_tuning,
    scheme_of,
    with_images,
)
from edgeq.pipeline.recipe import Tables, whole_recipe
from edgeq.products import BUILD
from edgeq.progress import Progress, Silent
from edgeq.quant.input_transform import InputTransform
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import Spec, specify
from edgeq.threads import Choice, choose, work_with

__all__ = ["Job", "Opened", "capture_model", "load_configured", "open_job", "prepare"]


RANKED = ("classification", "segmentation")
"""Tasks whose outputs are scores of classes, read for the best of them."""


@dataclass(frozen=True)
class Opened:
    """What settings name, read but not captured.

    `requested` are the settings as they were given; `config` are those with fine-tuning told apart from images.
    `tuning` is the method that fine-tunes, "" for none. `folder` is where the build will be. `evaluation` says where
    labelled images are, None where nothing does.
    """

    requested: BuildConfig
    config: BuildConfig
    tuning: str
    target: Target
    scheme: Scheme
    loaded: LoadedModel
    folder: Path
    evaluation: str | None


@dataclass(frozen=True)
class Job(Opened):
    """One build before its first stage.

    `raw` is the network as captured, with its batch norms; `graph` is the optimised one in float. `input_transform`
    says what the file's input stands for. `quantized_graph` is what is calibrated, on images whose values lie in
    `input_range`; `specs` says where each of its values gets its quantization from. `method` makes the calibration
    images, `why` says why that one, and `recipe` holds every setting of it and of fine-tuning. `threads` is what torch
    works with; `capture_seconds` is how long capturing took.
    """

    raw: Graph
    graph: Graph
    input_transform: InputTransform
    quantized_graph: Graph
    input_range: tuple[float, float]
    specs: Mapping[str, Spec]
    method: str
    why: str
    recipe: Tables
    threads: Choice
    capture_seconds: float


def open_job(config: BuildConfig, loaded: LoadedModel | None = None) -> Opened:
    """Check the settings and load the target and the network, unless it is `loaded` already. Raises `EdgeqError`."""
    requested, (config, tuning) = config, choose_tuning(config)
    check_method(config.method)
    if config.output is not None:
        check_replaceable(config.output, BUILD)
    target = load_target(config.target)
    scheme = scheme_of(config, target)
    loaded = load_configured(config) if loaded is None else loaded
    folder = config.output_folder(loaded.spec.name)
    check_replaceable(folder, BUILD)
    evaluation = config.evaluation or loaded.spec.evaluation
    if evaluation:
        loaded = replace(loaded, spec=with_stated_task(loaded.spec, evaluation))
    return Opened(requested, config, tuning, target, scheme, loaded, folder, evaluation)


def prepare(opened: Opened | BuildConfig, progress: Progress | None = None, raw: Graph | None = None) -> Job:
    """Capture the network, unless it is captured as `raw`, optimise it and decide how it will be quantized.

    Leaves torch with the number of threads that suits the job. Raises `EdgeqError`: what cannot be quantized as the
    settings say is refused here.
    """
    if isinstance(opened, BuildConfig):
        opened = open_job(opened)
    progress = progress or Silent()
    config, spec, scheme = opened.config, opened.loaded.spec, opened.scheme
    started = time.monotonic()
    progress.stage("capture")
    raw = capture_model(opened.loaded) if raw is None else raw
    graph = apply_mixed_precision(optimize(raw), scheme)
    input_transform = choose_input_transform(config, opened.target, scheme, graph, spec, opened.tuning)
    quantized_graph = input_transform.graph(graph)
    input_range = (input_transform.spec if input_transform.form == "weights" else spec).input_range()
    specs = specify(quantized_graph, input_range, scheme, ranked=spec.task in RANKED)
    config = with_images(config, opened.tuning, graph)
    seconds = time.monotonic() - started
    progress.done("capture", seconds, cached=False)
    method, why = choose_method(config.method, raw, spec.task)
    recipe = whole_recipe(config, method, opened.tuning, graph)
    threads = work_with(choose(config.threads, graph.macs(), config.images))
    progress.note(str(threads))
    if spec.assumption:
        progress.note(spec.assumption)
    return Job(
        **(vars(opened) | {"config": config}),
        raw=raw,
        graph=graph,
        input_transform=input_transform,
        quantized_graph=quantized_graph,
        input_range=input_range,
        specs=specs,
        method=method,
        why=why,
        recipe=recipe,
        threads=threads,
        capture_seconds=seconds,
    )


def load_configured(config: BuildConfig) -> LoadedModel:
    """Load the network that the settings name, with what they say of its input."""
    return load_model(
        config.model or "",
        weights=config.weights,
        input_shape=config.input_shape,
        mean=config.mean,
        std=config.std,
        task=config.task,
    )


def capture_model(loaded: LoadedModel) -> Graph:
    """Capture the network as a graph that still holds its batch norms, without a final normalisation of an embedding.

    Raises `UnsupportedError` for one without weights, and for calls that edgeq does not know.
    """
    angles = loaded.spec.task == "embedding"
    if isinstance(loaded.module, torch.nn.Module):
        graph = capture(loaded.module, loaded.spec.input_shape, loaded.spec.name, angles=angles)
    else:
        graph = capture_program(loaded.module, loaded.spec.name, angles=angles)
    if not graph.constants:
        raise UnsupportedError(
            "there is nothing to quantize", where=loaded.spec.name, why="the network holds no layer with weights"
        )
    return graph
