"""Scenes of signs for the segmenter and the detector: 96x96 pixels, one to three signs, of five families.

The pictures are those of `../signs/render.py`. A family is what a sign's outline and colours say before its pictogram
is read, so it is still seen where signs are twenty pixels wide.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "signs"))
try:
    from render import CLASSES as SIGNS
    from render import render_scene
finally:
    del sys.path[0]

__all__ = ["FAMILIES", "SIZE", "Scenes", "detection", "render_scenes", "segmentation"]

SIZE = 96
"""Height and width of a scene, pixels."""
FAMILIES = ("prohibition", "warning", "priority", "order", "information")

_FIRST = ("no-entry", "danger", "yield", "go-straight", "parking")
"""Where in the catalogue each family begins; a footpath is an order, though it stands after the boards."""
_COUNT, _RADIUS = (1, 3), (11.0, 24.0)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scenes:
    """`images` uint8 ``(N, 96, 96, 3)``, `masks` uint8 ``(N, 96, 96)`` (0 background, family + 1 for signs).

    One array per scene of what its renderer calls boxes, tight around what is visible: `boxes` float64 ``(n, 4)`` as
    x0, y0, x1, y1 in fractions of the image, `labels` int64 ``(n,)``, families from 0.
    """

    images: Pixels
    masks: Pixels
    boxes: list[npt.NDArray[np.float64]]
    labels: list[npt.NDArray[np.int64]]


def render_scenes(count: int, *, seed: int = 0, split: str = "scenes") -> Scenes:
    """The first `count` scenes of a split: ``scenes`` to train on, ``scenes-test`` to measure with."""
    family = _families()
    paint = np.concatenate([[0], family + 1]).astype(np.uint8)
    images, masks = np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty((count, SIZE, SIZE), np.uint8)
    boxes, labels = [], []
    for index in range(count):
        scene = render_scene(index, seed=seed, split=split, size=(SIZE, SIZE), signs=_COUNT, radius=_RADIUS)
        images[index], masks[index] = scene.image, paint[scene.mask]
        boxes.append(scene.boxes / SIZE)
        labels.append(family[scene.labels])
    return Scenes(images, masks, boxes, labels)


def segmentation(count: int = 300, seed: int = 0) -> tuple[Pixels, Pixels]:
    """Evaluation set of a segmenter: images ``(N, 96, 96, 3)`` and masks ``(N, 96, 96)``, both uint8."""
    scenes = render_scenes(count, seed=seed, split="scenes-test")
    return scenes.images, scenes.masks


def detection(count: int = 300, seed: int = 0) -> tuple[Pixels, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]]:
    """Evaluation set of a detector: images ``(N, 96, 96, 3)``, and per image boxes ``(n, 4)`` and labels ``(n,)``."""
    scenes = render_scenes(count, seed=seed, split="scenes-test")
    return scenes.images, list(zip(scenes.boxes, scenes.labels, strict=True))


def _families() -> npt.NDArray[np.int64]:
    """The family of every sign of the catalogue."""
    first = [SIGNS.index(name) for name in _FIRST]
    family = np.searchsorted(first, np.arange(len(SIGNS)), side="right") - 1
    family[SIGNS.index("footpath")] = FAMILIES.index("order")
    return np.asarray(family, np.int64)
