"""The stage from float graph to IntegerGraph: equalize, calibrate, freeze, and say which layer lost what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.cache import Result, StageCache, Workspace
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.files import write_atomic
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.layers import layer_errors
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import equalize, rescaled
from edgeq.quant.freeze import freeze
from edgeq.quant.input_transform import Intake
from edgeq.quant.observe import OBSERVERS

__all__ = ["INTEGER", "CalibrationInputs", "calibrated", "entry_rows", "read_integers"]

INTEGER = "integer.safetensors"
"""The file of an IntegerGraph, in a stage's result and in a build's folder."""

JUDGED = 8
"""Calibration images that errors per layer are measured on."""


@dataclass(frozen=True)
class CalibrationInputs:
    """Everything that the stage reads. `graph` is optimised and takes `images`, whose values lie in `input_range`.
    `plugins` is the file of an observer that is not edgeq's own, known by its content.
    """

    graph: Graph
    images: CalibrationSet
    input_range: tuple[float, float]
    scheme: Scheme
    observer: str
    plugins: tuple[Path, ...]
    environment: Environment


def calibrated(
    config: BuildConfig, graph: Graph, intake: Intake, scheme: Scheme, images: CalibrationSet, cache: StageCache
) -> Result:
    """The stage: `graph` with ranges from normalised `images`, in integers. Its value is the IntegerGraph."""
    input_range = intake.network.input_range()
    if intake.form == "weights":
        graph, input_range, images = intake.graph(graph), intake.spec.input_range(), intake.images(images)
    inputs = CalibrationInputs(
        graph,
        images,
        input_range,
        scheme,
        config.observer,
        OBSERVERS.files(config.observer),
        environment(TRAINING, config.threads),
    )
    return cache.run("calibrate", inputs, _calibrate, read_integers)


def read_integers(result: Result) -> IntegerGraph:
    """The IntegerGraph that a stage left. Raises for facts that are not what a report is made of."""
    int(result.facts["equalized"]), sum(result.facts["dead_channels"].values())
    [(str(row["name"]), float(row["sqnr_db"])) for row in result.facts["layers"]]
    return IntegerGraph.load(result.files[INTEGER])


def _calibrate(inputs: CalibrationInputs, space: Workspace) -> dict[str, Any]:
    graph, images, scheme = inputs.graph, inputs.images, inputs.scheme
    with inputs.environment.applied() as made_with:
        even = equalize(graph, images, inputs.input_range, scheme)
        decided = calibrate(even, images, inputs.input_range, scheme=scheme, observer=inputs.observer)
        frozen = freeze(even, decided)
        write_atomic(space.folder / INTEGER, frozen.graph.to_bytes())
        rows = layer_errors(even, frozen.graph, images.inputs[:JUDGED])
    return {
        "dead_channels": dict(frozen.dead_channels),
        "notes": list(frozen.notes),
        "equalized": len(rescaled(graph, even)),
        "layers": [row.to_json() for row in rows],
        "made_with": made_with,
    }


def entry_rows(intake: Intake, integer: IntegerGraph, images: CalibrationSet) -> list[dict[str, Any]]:
    """Rows of ops in front of the graph that was calibrated: the one that normalises pixels, where there is one."""
    if intake.form != "op":
        return []
    return [row.to_json() for row in layer_errors(*intake.front(integer), images.inputs[:JUDGED])]
