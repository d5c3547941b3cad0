"""synth(): a network's calibration set as a product of its own, for any quantizer.

    capture -> synthesize -> statistics -> folder

calibration.npz        float32 inputs as the network takes them, and labels: what `edgeq build` calibrates on
images.npz, png/       the same as 8-bit pictures, rounded and clipped to what a pixel can be
contact.png            the first of them, by label
generator.safetensors  what drew them, where the method trains a generator
statistics.html, .json how closely each layer sees what the network remembers
edgeq.lock             what it was made from
"""

from __future__ import annotations

import dataclasses
import io
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from edgeq.cache import Result, StageCache, Workspace, open_cache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, load_images
from edgeq.data.stated import with_stated_task
from edgeq.errors import UnsupportedError
from edgeq.files import check_replaceable, stage_folder
from edgeq.graph.ir import Graph
from edgeq.model.load import LoadedModel
from edgeq.model.spec import ModelSpec
from edgeq.pipeline.choices import check_method, choose_method
from edgeq.pipeline.environment import TRAINING, Environment, environment
from edgeq.pipeline.prepare import capture_model, load_configured
from edgeq.pipeline.recipe import whole_recipe
from edgeq.pipeline.synthesis import synthesize
from edgeq.products import CALIBRATION_SET, MARKER
from edgeq.progress import Progress, Silent
from edgeq.report.lock import lock_text, portable
from edgeq.report.pages.statistics import render_statistics
from edgeq.synth import SYNTHESIZERS, Request
from edgeq.synth.generatorfile import GENERATOR
from edgeq.synth.sheet import contact_sheet, pixels
from edgeq.synth.statistics import assignment, layer_gaps, observe_moments, references
from edgeq.threads import choose, threads_restored, work_with
from edgeq.versions import package_versions

__all__ = ["STAGES", "forbidden_images", "synth"]

STAGES = ("synthesize", "statistics")

COMPARED = 32
"""How many images of Gaussian noise are compared with the set; their gaps show what a large gap is."""


@threads_restored()
def synth(config: BuildConfig, progress: Progress | None = None, loaded: LoadedModel | None = None) -> dict[str, Any]:
    """Make the calibration set of one network and write its folder. Returns what statistics.json holds.

    The network is `loaded`, or the one that `config` names. Of `config` this also reads method, images, seed, effort,
    recipe, cache and output. The folder is the earlier one or the new one, never half. Raises `EdgeqError` for
    everything foreseen.
    """
    progress = progress or Silent()
    check_method(config.method)
    torch.manual_seed(config.seed)
    if config.output is not None:
        check_replaceable(config.output, CALIBRATION_SET)
    loaded = load_configured(config) if loaded is None else loaded
    if where := config.evaluation or loaded.spec.evaluation:
        loaded = dataclasses.replace(loaded, spec=with_stated_task(loaded.spec, where))
    if loaded.spec.assumption:
        progress.note(loaded.spec.assumption)
    started = time.monotonic()
    progress.stage("capture")
    raw = capture_model(loaded)
    progress.done("capture", time.monotonic() - started, cached=False)
    progress.note(str(work_with(choose(config.threads, raw.macs(), config.images))))
    cache = open_cache(config.cache, progress, frozenset(STAGES if "all" in config.force else config.force))
    method, why = choose_method(config.method, raw, loaded.spec.task)
    recipe = whole_recipe(config, method, "", raw)
    folder = config.output or Path("build") / f"{loaded.spec.name}-{_file_name(method)}"
    check_replaceable(folder, CALIBRATION_SET)
    result, calibration = synthesize(
        config, loaded, raw, method, cache, forbidden=forbidden_images(config, loaded, method)
    )
    measured = _statistics(config, calibration, raw, loaded.spec, cache)
    facts = {
        "schema": 1,
        "edgeq": version("edgeq"),
        "model": loaded.spec.name,
        "input": list(loaded.spec.input_shape),
        "mean": list(loaded.spec.mean),
        "std": list(loaded.spec.std),
        "assumed": list(loaded.spec.assumed),
        "usual_values": loaded.spec.usual_values,
        "assumption": loaded.spec.assumption,
        "method": calibration.method,
        "method_reason": why,
        "images": len(calibration),
        "seed": config.seed,
        "effort": config.effort,
        "recipe": recipe,
        "seconds": result.seconds,
        "sha256": calibration.digest(),
        "notes": dict(calibration.notes),
        **{key: value for key, value in measured.facts.items() if key != "made_with"},
    }
    _write_folder(folder, facts, calibration, loaded, raw, result.files.get(GENERATOR))
    return facts | {"folder": str(folder)}


def _file_name(method: str) -> str:
    """A method as part of a folder's name: of ``images:PATH`` only the last part of the path."""
    return f"images-{Path(method.removeprefix('images:')).name}" if method.startswith("images:") else method


def forbidden_images(config: BuildConfig, loaded: LoadedModel, method: str) -> EvaluationSet | None:
    """The images that the network is measured with, read only where the user's pictures could be among them."""
    where = config.evaluation or loaded.spec.evaluation
    return load_images(where, loaded.spec) if where and method.startswith("images:") else None


@dataclass(frozen=True)
class StatisticsInputs:
    """Everything that the comparison of layers reads. `graph` still holds its batch norms; `low` and `high` are the
    normalised values of pixel 0 and 255 per channel ``(C,)``; `classes` is 0 for what is no classifier."""

    calibration: CalibrationSet
    graph: Graph
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    classes: int
    environment: Environment


def _statistics(
    config: BuildConfig, calibration: CalibrationSet, raw: Graph, spec: ModelSpec, cache: StageCache
) -> Result:
    low, high = spec.channel_range()
    classes = spec.classes if spec.task == "classification" else 0
    inputs = StatisticsInputs(calibration, raw, low, high, classes, environment(TRAINING, config.threads))
    return cache.run("statistics", inputs, _compare)


def _compare(inputs: StatisticsInputs, space: Workspace) -> dict[str, Any]:
    low, high, raw, calibration = inputs.low, inputs.high, inputs.graph, inputs.calibration
    with inputs.environment.applied() as made_with:
        count = min(COMPARED, len(calibration))
        noise = SYNTHESIZERS.get("noise")(Request(raw, low, high, inputs.classes, count, seed=0))
        return _gaps(calibration, noise, raw) | {
            "answers": _answers(calibration, raw, inputs.classes),
            "outside": _outside(calibration.inputs, low, high),
            "made_with": made_with,
        }


def _gaps(calibration: CalibrationSet, noise: CalibrationSet, raw: Graph) -> dict[str, Any]:
    """Rows per layer, the set's beside noise's; without rows, why there are none."""
    try:
        statistics, source = references(raw)
    except UnsupportedError as error:
        return {"reference": None, "reference_why": f"{error.what} at {error.where}", "gaps": None, "layers": []}
    values = [want.value for want in statistics]
    ours, theirs = (layer_gaps(statistics, observe_moments(raw, s.inputs, values)[0]) for s in (calibration, noise))
    rows = [
        dataclasses.asdict(a) | {"noise_mean_gap": b.mean_gap, "noise_std_gap": b.std_gap}
        for a, b in zip(ours, theirs, strict=True)
    ]
    keys = ("mean_gap", "std_gap", "noise_mean_gap", "noise_std_gap")
    gaps = {key: float(np.mean([row[key] for row in rows])) for key in keys} if rows else None
    return {"reference": source, "reference_why": "", "gaps": gaps, "layers": rows}


def _answers(calibration: CalibrationSet, raw: Graph, classes: int) -> dict[str, Any] | None:
    """What the network makes of the images; None where it is no classifier."""
    if classes == 0:
        return None
    assigned = assignment(calibration, observe_moments(raw, calibration.inputs, ())[1])
    share = assigned.kept / assigned.labelled if assigned.labelled else None
    return dataclasses.asdict(assigned) | {"share": share, "of": classes}


def _outside(inputs: npt.NDArray[np.float32], low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> float:
    """Share of values no 8-bit pixel can have, by more than half a step: these are clipped in pictures."""
    bottom, top = (v.reshape(1, -1, 1, 1) for v in (low, high))
    slack = (top - bottom) / 510
    return float(np.mean((inputs < bottom - slack) | (inputs > top + slack)))


def _write_folder(
    folder: Path,
    facts: dict[str, Any],
    calibration: CalibrationSet,
    loaded: LoadedModel,
    raw: Graph,
    generator: Path | None,
) -> None:
    spec = loaded.spec
    images = pixels(calibration, spec.mean, spec.std)
    sheet = contact_sheet(calibration, spec.mean, spec.std)
    contents = {
        "schema": 1,
        "kind": CALIBRATION_SET.kind,
        "model": {"name": spec.name, "weights_sha256": loaded.weights_sha256(), "graph_sha256": raw.digest()},
        "calibration": {key: portable(facts[key]) for key in ("method", "images", "seed", "effort", "sha256")},
        "packages": package_versions(),
    }
    # Nothing here needs to be atomic by itself: the folder is, and is flushed to the disk before it takes its place.
    with stage_folder(folder, CALIBRATION_SET) as staging:
        (staging / "calibration.npz").write_bytes(calibration.to_bytes())
        (staging / "images.npz").write_bytes(_pictures(images, calibration))
        (staging / "contact.png").write_bytes(sheet)
        (staging / "statistics.json").write_text(_json(facts), encoding="utf-8")
        (staging / "statistics.html").write_text(render_statistics(facts, sheet, str(folder)), encoding="utf-8")
        (staging / MARKER).write_text(lock_text(contents), encoding="utf-8")
        if generator is not None:
            (staging / GENERATOR).write_bytes(generator.read_bytes())
        _write_pngs(staging / "png", images, calibration.labels)


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _pictures(images: npt.NDArray[np.uint8], calibration: CalibrationSet) -> bytes:
    """uint8 ``(N, H, W, C)`` with labels, as ``images:PATH`` reads it; `prepared` says that the size is right."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, labels=calibration.labels, prepared=np.array(True))
    return buffer.getvalue()


def _write_pngs(folder: Path, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
    """One file per image, named by index and label, and a table of both. Only 1 or 3 channels make a picture."""
    if images.shape[3] not in (1, 3):
        return
    folder.mkdir()
    rows = ["filename,label"]
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        name = f"{index:05d}-{'unlabelled' if label < 0 else f'label-{label}'}.png"
        Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(folder / name)
        rows.append(f"{name},{label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
