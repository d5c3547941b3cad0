"""``timm:NAME``: timm's networks with the user's weights, or random ones. Nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.errors import ConfigError, InstallError, ModelError
from edgeq.model.pycode import call, last_line
from edgeq.model.spec import ModelSpec
from edgeq.model.torchvision import import_torchvision
from edgeq.registry import nearest

__all__ = ["timm_model"]


def import_timm() -> Any:
    """`import timm`, also beside a CPU build of torch. Raises `ConfigError` where it is not installed."""
    hint = "pip install timm"
    try:
        import_torchvision()  # timm imports it, which fails beside a CPU torch unless done our way
    except ConfigError as error:
        raise InstallError("timm needs torchvision, which is not installed", hint=hint) from error
    try:
        import timm
    except ModuleNotFoundError as error:
        missing = "" if error.name == "timm" else last_line(error)
        raise InstallError("timm is not installed", why=missing, hint=hint) from error
    return timm


def timm_model(name: str, state: Mapping[str, Tensor] | None) -> tuple[ModelSpec, nn.Module]:
    """The network with random weights, and its spec as timm's configuration of its published weights states it.

    `name` is an architecture or one with the tag of its weights (``resnet18.a1_in1k``), which may differ in size, mean
    and crop. `state` is what the caller will load: the number of classes is the one its classifier has.
    """
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    names = timm.list_models()
    if architecture not in names:
        raise ModelError(f"unknown timm model {architecture!r}", hint=nearest(architecture, names))
    tagged = [n for n in timm.list_pretrained(f"{architecture}.*") if n.partition(".")[0] == architecture]
    if tag and name not in tagged:
        raise ModelError(f"timm has no weights {tag!r} of {architecture}", hint=nearest(name, tagged))
    stated = timm.get_pretrained_cfg(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arguments = {"pretrained": False} | _classes(stated.classifier if stated else None, state)
        module = call(lambda: timm.create_model(name, **arguments), f"timm:{name}", {})
    return _spec(name, module), module


def _classes(classifier: Any, state: Mapping[str, Tensor] | None) -> dict[str, int]:
    """Number of classes of the checkpoint's classifier, which a fine-tuned network may have changed."""
    weight = (state or {}).get(f"{classifier}.weight")
    return {} if weight is None or weight.dim() < 2 else {"num_classes": len(weight)}


def _spec(name: str, module: nn.Module) -> ModelSpec:
    config: Mapping[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    channels, height, width = config["input_size"]
    resize = int(min(height, width) / config["crop_pct"]) if config.get("crop_pct") else None
    return ModelSpec(
        name=name,
        input_shape=(channels, height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize=resize,
        crop=height if resize and height == width else None,
    )
