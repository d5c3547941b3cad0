"""The section `use` of a report: what an app must know of a file that was just written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edgeq.config.formats import FORMATS
from edgeq.formats.base import format_class
from edgeq.formats.contents import Tensor
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, GridDetection, Regression, Segmentation, Task
from edgeq.pipeline.prepare import Job

__all__ = ["class_names", "use_of"]


def use_of(job: Job, artifact: Path, labels_in_file: tuple[str, ...]) -> dict[str, Any]:
    """What `edgeq.report.fields.use.Use` holds of the file `artifact`, which carries `labels_in_file`."""
    spec, target, facts = job.loaded.spec, job.target, FORMATS.get(job.target.format)
    contents = format_class(facts).read(artifact.read_bytes(), run=False)
    labels = class_names(spec)
    return {
        "runtimes": [target.runtime, *(name for name in facts.runtimes if name != target.runtime)],
        "kernels": target.kernels,
        "session": (dict(facts.session) if target.activations == "int8" else {}) | dict(target.session),
        "channels_last": facts.channels_last,
        "input": _tensor(contents.inputs[0]),
        "outputs": [_tensor(tensor) for tensor in contents.outputs],
        "mean": list(spec.mean),
        "std": list(spec.std),
        **({} if spec.resize is None else {"resize": spec.resize}),
        "crop": spec.resize is not None or spec.crop is not None,
        "labels": list(labels),
        "labels_in_file": bool(labels) and labels == labels_in_file,
        **_meaning(spec.dense),
    }


def class_names(spec: ModelSpec) -> tuple[str, ...]:
    """What the classes of a network are called, in the order of its scores without a detector's background."""
    if isinstance(spec.dense, Segmentation | Detection | GridDetection):
        return spec.dense.classes
    return spec.labels


def _tensor(tensor: Tensor) -> dict[str, Any]:
    grid = {"scale": tensor.scales[0], "zero_point": tensor.zero_point or 0} if tensor.scales else {}
    return {"type": tensor.type, "shape": list(tensor.shape), **grid}


def _meaning(task: Task | None) -> dict[str, Any]:
    if isinstance(task, Regression):
        count = len(task.names)
        return {"names": list(task.names), "units": [task.unit(place) for place in range(count)]}
    if isinstance(task, GridDetection):
        heads = {name: value for name, value in dataclasses.asdict(task.decoding).items() if value is not None}
        return {"heads": heads | {"score": task.score, "overlap": task.overlap}}
    if isinstance(task, Detection):
        return {"anchors": {name: getattr(task, name) for name in ("maps", "sizes", "variances", "score", "overlap")}}
    return {}
