"""Detectors as people have them, cut in front of the decoding: the network then ends with its raw heads.

A detector of ultralytics or torchvision decodes boxes inside its forward: distances, anchors, top-k, suppression. No
integer form of that is worth having, and boxes in pixels beside scores from 0 to 1 would share one grid. `cut_decoding`
recognises such networks by the classes of their modules, without importing the packages, and returns a network whose
outputs are the last layers. What was cut is data for `edgeq.decode_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.decode_grid import GridDecoding, Heads
from edgeq.errors import NetworkFormError

__all__ = ["Cut", "cut_decoding", "unwrap", "usual_input"]

_HEADS = "ultralytics.nn.modules.head"
_DETECTION = "torchvision.models.detection."
_KINDS: tuple[tuple[str, Heads, str], ...] = (
    ("Segment", "segment", "nm"),
    ("Pose", "pose", "nk"),
    ("OBB", "obb", "ne"),
    ("Detect", "detect", ""),
)
"""Head class, what it detects, and the attribute with the number of channels of its third branch."""
_PLAIN = ("Pose26", "OBB26")
_WITH_TEXT = ("WorldDetect", "YOLOEDetect", "YOLOESegment")


@dataclass(frozen=True)
class Cut:
    """What was cut off a network.

    `task` is what the outputs are for, `where` the module path and class that decoded, `what` the work left to the
    host. `heads` are the module paths of the outputs, in order. `names` are the classes' names where the network knows
    them. `decoding` does the host's work on the heads of the YOLO family, None for others.
    """

    task: str
    where: str
    what: str
    heads: tuple[str, ...]
    names: tuple[str, ...] = ()
    decoding: GridDecoding | None = None

    def __str__(self) -> str:
        return f"cut off {self.where}, which is left to the host: {self.what}; outputs are {', '.join(self.heads)}"


def unwrap(module: Any) -> Any:
    """What a factory returned, or the network inside ultralytics' ``YOLO(...)``, whose `train` is no network's.

    Raises `UnsupportedError` where there is none.
    """
    if not _is(module, "ultralytics.engine.model", "Model"):
        return module
    inner = getattr(module, "model", None)
    if not isinstance(inner, nn.Module):
        raise NetworkFormError(f"{type(module).__name__} holds no PyTorch network", hint="make it of a .yaml file")
    return inner


def cut_decoding(module: nn.Module) -> tuple[nn.Module, Cut | None]:
    """The network ending in its raw heads, and what was cut; as it is, and None, where it decodes nothing.

    The network is changed in place. Raises `UnsupportedError` for detectors that cannot end in raw heads.
    """
    for path, part in module.named_modules():
        if _is(part, _HEADS, "Detect"):
            return _cut_grid(module, path, part)
        if _is(part, _HEADS, "Classify"):
            where = f"{path} ({type(part).__name__})"
            cut = Cut("classification", where, "softmax", (f"{path}.linear",), _class_names(module))
            return _replace(module, path, _Logits(part)), cut
    for file, name in (("ssd", "SSD"), ("retinanet", "RetinaNet"), ("fcos", "FCOS")):
        if _is(module, _DETECTION + file, name):
            return _cut_anchors(module, name)
    if _is(module, _DETECTION + "generalized_rcnn", "GeneralizedRCNN"):
        raise NetworkFormError(
            f"{type(module).__name__} detects in two stages",
            why="its second network reads as many regions as the first one finds",
            hint="use a detector of one stage: SSD, RetinaNet, FCOS or a YOLO",
        )
    for file, name in (("_utils", "_SimpleSegmentationModel"), ("lraspp", "LRASPP")):
        if _is(module, f"torchvision.models.segmentation.{file}", name):
            extra = "the auxiliary output" if getattr(module, "aux_classifier", None) is not None else "the dictionary"
            return _MainOutput(module), Cut("segmentation", type(module).__name__, extra, ("out",))
    return module, None


def usual_input(module: nn.Module) -> dict[str, tuple[float, ...]]:
    """``input_size``, ``mean`` and ``std`` of an ultralytics network's own training; empty for another network.

    The keys are those of timm's ``default_cfg``.
    """
    if not any(kind.__module__ == "ultralytics.nn.tasks" for kind in type(module).__mro__):
        return {}
    side = 224 if any(_is(part, _HEADS, "Classify") for part in module.modules()) else 640
    channels = int((getattr(module, "yaml", None) or {}).get("channels", 3))
    return {"input_size": (channels, side, side), "mean": (0.0,) * channels, "std": (1.0,) * channels}


class _RawHeads(nn.Module):
    """Branches of ultralytics' ``Detect``, under their own names, without what follows: maps, level by level."""

    def __init__(self, head: Any, kind: Heads) -> None:
        super().__init__()
        self.f, self.i = head.f, head.i
        self.end_to_end = bool(getattr(head, "end2end", False))
        prefix = "one2one_" if self.end_to_end and getattr(head, "one2one_cv2", None) is not None else ""
        self.chains: list[tuple[str, ...]] = [(f"{prefix}cv2",), (f"{prefix}cv3",)]
        if kind != "detect":
            last = (f"{prefix}cv4_kpts",) if hasattr(head, f"{prefix}cv4_kpts") else ()
            self.chains.append((f"{prefix}cv4", *last))
        for chain in self.chains:
            for name in chain:
                setattr(self, name, getattr(head, name))
        self.levels = len(getattr(head, f"{prefix}cv2"))
        self.proto = head.proto if kind == "segment" else None
        self.all_maps = _is(head, _HEADS, "Segment26")

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        outputs = []
        for chain in self.chains:
            for level in range(self.levels):
                value = maps[level]
                for name in chain:
                    value = getattr(self, name)[level](value)
                outputs.append(value)
        if self.proto is not None:
            outputs.append(self.proto(maps if self.all_maps else maps[0]))
        return tuple(outputs)


def _cut_grid(module: nn.Module, path: str, head: Any) -> tuple[nn.Module, Cut]:
    if any(_is(head, _HEADS, name) for name in _WITH_TEXT):
        raise NetworkFormError(
            f"{type(head).__name__} reads text beside the picture", where=path, hint="train a detector of fixed classes"
        )
    kind, extra = next((kind, extra) for name, kind, extra in _KINDS if _is(head, _HEADS, name))
    raw = _RawHeads(head, kind)
    names = [f"{path}.{chain[-1]}.{level}" for chain in raw.chains for level in range(raw.levels)]
    decoding = GridDecoding(
        kind=kind,
        strides=tuple(float(stride) for stride in head.stride),
        reg_max=int(head.reg_max),
        classes=int(head.nc),
        extra=int(getattr(head, extra)) if extra else 0,
        keypoints=(int(head.kpt_shape[0]), int(head.kpt_shape[1])) if kind == "pose" else None,
        end_to_end=raw.end_to_end,
        plain=any(_is(head, _HEADS, name) for name in _PLAIN),
    )
    what = f"{'distances (DFL), ' * (decoding.reg_max > 1)}boxes around anchors, sigmoid of scores"
    what += ", the best boxes" if decoding.end_to_end else ", suppression"
    heads = (*names, f"{path}.proto") if kind == "segment" else tuple(names)
    where = f"{path} ({type(head).__name__})"
    return _replace(module, path, raw), Cut("detection", where, what, heads, _class_names(module), decoding)


class _Logits(nn.Module):
    """Ultralytics' ``Classify`` without its softmax."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.f, self.i = head.f, head.i
        self.conv, self.pool, self.linear = head.conv, head.pool, head.linear

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        joined = torch.cat(x, 1) if isinstance(x, list) else x
        logits: Tensor = self.linear(self.pool(self.conv(joined)).flatten(1))
        return logits


class _AnchorHeads(nn.Module):
    """Backbone and head of a torchvision detector of one stage: rows of class logits, of deltas, and of centredness."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.head(list(self.backbone(x).values()))
        return tuple(found[name] for name in ("cls_logits", "bbox_regression", "bbox_ctrness") if name in found)


def _cut_anchors(module: Any, name: str) -> tuple[nn.Module, Cut]:
    heads = ("head.classification_head", "head.regression_head")
    scores = "softmax of scores" if name == "SSD" else "sigmoid of scores"
    what = f"resizing and normalising of the picture, boxes around anchors, {scores}, suppression"
    return _AnchorHeads(module), Cut("detection", type(module).__name__, what, heads)


class _MainOutput(nn.Module):
    """The main output of a torchvision segmenter, which returns a dictionary."""

    def __init__(self, segmenter: Any) -> None:
        super().__init__()
        segmenter.aux_classifier = None
        self.segmenter = segmenter

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.segmenter(x)["out"]
        return out


def _is(module: object, file: str, name: str) -> bool:
    """Whether `module` is of the class `name` in `file`, or of one derived from it; nothing is imported."""
    return any(kind.__name__ == name and kind.__module__ == file for kind in type(module).__mro__)


def _replace(module: nn.Module, path: str, part: nn.Module) -> nn.Module:
    if not path:
        return part
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)
    return module


def _class_names(module: object) -> tuple[str, ...]:
    names = getattr(module, "names", None)
    return tuple(str(name) for name in names.values()) if isinstance(names, dict) else ()
