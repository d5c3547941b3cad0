"""``torchvision:NAME``: torchvision's networks with its published weights, the user's, or random ones."""

from __future__ import annotations

import socket
import sys
import warnings
from typing import Any

import torch
from torch import nn

from edgeq.errors import InstallError, ModelError, WeightsError
from edgeq.model.pycode import last_line
from edgeq.model.spec import ModelSpec
from edgeq.registry import nearest

__all__ = ["import_torchvision", "torchvision_model"]

DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte; urllib waits for ever by default

_schemas: list[Any] = []


def import_torchvision() -> Any:
    """`import torchvision`, also beside a CPU build of torch that its compiled ops were not built for.

    There the import fails while registering fake kernels for two operators that do not exist; declaring their schemas
    first is enough. Networks and transforms then work, the compiled ops themselves (NMS, RoI) do not. Raises
    `ConfigError` when torchvision is not installed.
    """
    try:
        import torchvision
    except ImportError as error:
        raise InstallError("torchvision is not installed", hint="pip install 'edgeq[torchvision]'") from error
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)  # a Library takes its definitions along when it is collected
        import torchvision
    return torchvision


def torchvision_model(name: str, weights: str | None) -> tuple[ModelSpec, nn.Module]:
    """The network and its spec. `weights` None fetches the published ones; otherwise the caller loads its own."""
    models = import_torchvision().models
    names = models.list_models()
    if name not in names:
        raise ModelError(f"unknown torchvision model {name!r}", hint=nearest(name, names))
    published = models.get_model_weights(name).DEFAULT
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about initial values nobody will use
        torch.manual_seed(0)
        module = models.get_model(
            name, weights=None, **({"weights_backbone": None} if _has_backbone(models, name) else {})
        )
    spec = _spec(name, published, models.get_model_builder(name).__module__, module)
    if weights is None:
        _fetch(module, name, published)
    return spec, module


def _has_backbone(models: Any, name: str) -> bool:
    return any(part in models.get_model_builder(name).__module__ for part in (".segmentation.", ".detection."))


def _fetch(module: nn.Module, name: str, published: Any) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        module.load_state_dict(published.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash or shape is a RuntimeError
        raise WeightsError(
            f"cannot fetch the published weights of {name}",
            why=last_line(error),
            hint="give --weights FILE, or --weights random",
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _spec(name: str, published: Any, source: str, module: Any) -> ModelSpec:
    task = next((t for t in ("segmentation", "detection") if f".{t}." in source), "classification")
    transform, classes = published.transforms(), len(published.meta.get("categories", ()))
    if task == "detection" and hasattr(module, "transform"):
        inner = module.transform  # which resizes and normalises inside the detector
        height, width = inner.fixed_size or (inner.min_size[0],) * 2
        return ModelSpec(
            name, (3, height, width), tuple(inner.image_mean), tuple(inner.image_std), task=task, classes=classes
        )
    if not hasattr(transform, "mean"):
        raise ModelError(f"torchvision:{name} is not an image classifier or segmenter edgeq can prepare inputs for")
    crop = getattr(transform, "crop_size", None)
    resize = transform.resize_size[0]
    side = crop[0] if crop else resize
    return ModelSpec(
        name=name,
        input_shape=(3, side, side),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=resize,
        crop=side if crop else None,
        task=task,
        classes=classes,
    )
