"""``ultralytics:NAME``: ultralytics' networks with the user's weights, or random ones. Nothing is ever downloaded.

The package's own ``.pt`` files are pickles of Python objects, which edgeq does not open: whoever opens one runs what it
says. `EXPORT` is the line that makes weights of it, to be run where the file is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.errors import ConfigError, InstallError, ModelError
from edgeq.model.heads import usual_input
from edgeq.model.pycode import call, last_line
from edgeq.model.spec import ModelSpec
from edgeq.model.torchvision import import_torchvision

__all__ = ["EXPORT", "ultralytics_model"]

EXPORT = "torch.save(ultralytics.YOLO(FILE).model.float().state_dict(), 'weights.pth')"
_CLASSES = re.compile(r"model\.\d+\.(cv3\.0\.2|linear)\.bias")

KINDS = {
    "-cls": "ClassificationModel",
    "-seg": "SegmentationModel",
    "-pose": "PoseModel",
    "-obb": "OBBModel",
    "": "DetectionModel",
}


def import_ultralytics() -> Any:
    """`ultralytics.nn.tasks`, also beside a CPU build of torch. Raises `ConfigError` where it is not installed."""
    hint = "pip install ultralytics"
    try:
        import_torchvision()  # ultralytics imports it, which fails beside a CPU torch unless done our way
    except ConfigError as error:
        raise InstallError("ultralytics needs torchvision, which is not installed", hint=hint) from error
    try:
        from ultralytics.nn import tasks
    except ModuleNotFoundError as error:
        missing = "" if error.name == "ultralytics" else last_line(error)
        raise InstallError("ultralytics is not installed", why=missing, hint=hint) from error
    return tasks


def ultralytics_model(name: str, state: Mapping[str, Tensor] | None) -> tuple[ModelSpec, nn.Module]:
    """The network of ``yolo11n``, ``yolo11n-seg.yaml`` or a YAML file of the user's, with random weights, and its spec.

    The input is that of ultralytics' own training: pixels from 0 to 1. `state` is what the caller will load: the number
    of classes is the one its head has. Raises `ConfigError`.
    """
    tasks = import_ultralytics()
    if "://" in name:
        raise ModelError(f"ultralytics:{name} is an address", why="edgeq fetches nothing", hint="name a YAML file")
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    stem = Path(file).stem
    kind = next(made for suffix, made in KINDS.items() if suffix in stem)
    kind = "RTDETRDetectionModel" if "rtdetr" in stem else kind
    arguments = {"cfg": file, "verbose": False} | _classes(state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = call(getattr(tasks, kind), f"ultralytics:{name}", arguments)
    usual: Any = usual_input(module)
    task = "classification" if kind == "ClassificationModel" else "detection"
    return ModelSpec(stem, usual["input_size"], usual["mean"], usual["std"], task=task), module


def _classes(state: Mapping[str, Tensor] | None) -> dict[str, int]:
    """Number of classes of the checkpoint's head, which a trained network may have changed."""
    heads = [value for name, value in (state or {}).items() if _CLASSES.fullmatch(name)]
    return {"nc": len(heads[-1])} if heads else {}
