"""The stage from float graph to IntegerGraph: equalize, calibrate, freeze, and say which layer lost what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.cache import Result, StageCache, Workspace
from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.layers import layer_errors
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.pipeline.prepare import Job
from edgeq.quant.equalize import find_rescaled_layers
from edgeq.quant.freeze import Frozen, freeze
from edgeq.quant.input_transform import InputTransform
from edgeq.quant.observe import OBSERVERS
from edgeq.quant.quantize import decide
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import Spec

__all__ = ["INTEGER", "CalibrationInputs", "calibrate_graph", "entry_rows", "keep_frozen", "read_integers"]

INTEGER = "integer.safetensors"
"""The file of an IntegerGraph, in a stage's result and in a build's folder."""

JUDGED = 8
"""Calibration images that errors per layer are measured on."""


@dataclass(frozen=True)
class CalibrationInputs:
    """Everything that the stage reads. `graph` is optimised and takes `images`, whose values lie in `input_range`.
    `specs` says where each value of `graph` gets its quantization from. `plugins` is the file of an observer that is
    not edgeq's own, known by its content.
    """

    graph: Graph
    images: CalibrationSet
    input_range: tuple[float, float]
    scheme: Scheme
    specs: Mapping[str, Spec]
    observer: str
    plugins: tuple[Path, ...]
    environment: Environment


def calibrate_graph(job: Job, images: CalibrationSet, cache: StageCache) -> Result:
    """Run the stage: the job's graph with ranges from normalised `images`, in integers. Its value is the
    IntegerGraph."""
    images = job.input_transform.images(images) if job.input_transform.form == "weights" else images
    inputs = CalibrationInputs(
        job.quantized_graph,
        images,
        job.input_range,
        job.scheme,
        job.specs,
        job.config.observer,
        OBSERVERS.files(job.config.observer),
        environment(TRAINING, job.config.threads),
    )
    return cache.run("calibrate", inputs, _calibrate, read_integers)


def read_integers(result: Result) -> IntegerGraph:
    """The IntegerGraph that a stage left. Raises for facts that are not what a report is made of."""
    int(result.facts["equalized"]), sum(result.facts["dead_channels"].values())
    [(str(row["name"]), float(row["sqnr_db"])) for row in result.facts["layers"]]
    return IntegerGraph.load(result.files[INTEGER])


def _calibrate(inputs: CalibrationInputs, space: Workspace) -> dict[str, Any]:
    with inputs.environment.applied() as made_with:
        decided = decide(
            inputs.graph, inputs.images, inputs.input_range, inputs.scheme, observer=inputs.observer, specs=inputs.specs
        )
        frozen = freeze(decided.graph, decided.calibration)
        facts = keep_frozen(frozen, inputs.graph, decided.graph, inputs.images, space)
    return facts | {"made_with": made_with}


def keep_frozen(
    frozen: Frozen, graph: Graph, equalized: Graph, images: CalibrationSet, space: Workspace
) -> dict[str, Any]:
    """Write a stage's integers into its folder, and return what a report says of them.

    `equalized` is what was made of `graph` before it was calibrated; the error of each layer is measured against it.
    """
    write_atomic(space.folder / INTEGER, frozen.graph.to_bytes())
    return {
        "dead_channels": dict(frozen.dead_channels),
        "notes": list(frozen.notes),
        "equalized": len(find_rescaled_layers(graph, equalized)),
        "layers": [row.to_json() for row in layer_errors(equalized, frozen.graph, images.inputs[:JUDGED])],
    }


def entry_rows(input_transform: InputTransform, integer: IntegerGraph, images: CalibrationSet) -> list[dict[str, Any]]:
    """Rows of ops in front of the graph that was calibrated: the one that normalises pixels, where there is one."""
    if input_transform.form != "op":
        return []
    return [row.to_json() for row in layer_errors(*input_transform.front(integer), images.inputs[:JUDGED])]
