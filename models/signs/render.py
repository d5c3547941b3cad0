"""Renders road-sign-like pictograms on cluttered backgrounds: single 64x64 images, and scenes with boxes and masks.

Every image has a random stream of its own, keyed by seed, split and index. So the same seed gives the same bytes
whatever was rendered before and however many workers share the job, and two splits never share a stream.
"""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
from catalogue import PICTURES, Inks
from pen import Colour, Pen
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["CLASSES", "SIZE", "SPLITS", "Scene", "evaluation", "render_image", "render_scene", "render_set"]

CLASSES: tuple[str, ...] = tuple(PICTURES)
SIZE = 64
"""Height and width of a single-sign image, pixels."""
SPLITS = {"train": 0, "test": 1, "scenes": 2, "scenes-test": 3}
STYLES = 8
"""Renderings of each class: border and stroke widths and paints differ, as makers and years do."""

_TEMPLATE = 96  # pixels; about twice the largest sign in a 64x64 image, so warping never enlarges
_SUPERSAMPLE = 4

Pixels = npt.NDArray[np.uint8]
Random = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """An image and what is visible in it.

    `image` is uint8 RGB ``(H, W, 3)``; `labels` int64 ``(N,)``; `boxes` int64 ``(N, 4)`` as x0, y0, x1, y1 in pixels,
    the end exclusive, tight around the visible part; `mask` is uint8 ``(H, W)``: 0 for background, class + 1 for signs.
    """

    image: Pixels
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]
    mask: Pixels


def render_image(index: int, *, seed: int = 0, split: str = "train") -> Scene:
    """One sign on 64x64 pixels; its class is ``index % len(CLASSES)``, so every prefix of a split is balanced."""
    rng = _stream(seed, split, index)
    radius = rng.uniform(16.0, 28.0)
    centre = [SIZE / 2 + rng.uniform(-1, 1) * (4 + max(0.0, 24 - radius)) for _ in range(2)]
    return _render(rng, SIZE, SIZE, [_Placed(index % len(CLASSES), centre[0], centre[1], radius)])


def render_scene(
    index: int,
    *,
    seed: int = 0,
    split: str = "scenes",
    size: tuple[int, int] = (192, 256),
    signs: tuple[int, int] = (1, 5),
    radius: tuple[float, float] = (14.0, 32.0),
) -> Scene:
    """Several signs on a canvas of `size` (height, width): between `signs` many, of random class, barely overlapping.

    A sign that finds no room or is wholly hidden is left out of image, boxes and labels alike.
    """
    rng = _stream(seed, split, index)
    height, width = size
    placed: list[_Placed] = []
    for _ in range(int(rng.integers(signs[0], signs[1] + 1))):
        for _attempt in range(20):
            r = rng.uniform(*radius)
            new = _Placed(int(rng.integers(len(CLASSES))), rng.uniform(r, width - r), rng.uniform(r, height - r), r)
            if all(math.hypot(new.x - old.x, new.y - old.y) > 1.1 * (new.radius + old.radius) for old in placed):
                placed.append(new)
                break
    return _render(rng, height, width, placed)


def render_set(
    count: int, *, seed: int = 0, split: str = "train", workers: int = 1
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """The first `count` images of a split, uint8 ``(count, 64, 64, 3)``, and their labels ``(count,)``."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    chunks = [range(i, min(i + 256, count)) for i in range(0, count, 256)]
    work = partial(_render_chunk, seed=seed, split=split)
    if workers <= 1:
        for chunk in chunks:
            images[chunk.start : chunk.stop] = work(chunk)
    else:
        # spawn: forking a process in which torch already runs threads can hang
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for chunk, pixels in zip(chunks, pool.map(work, chunks), strict=True):
                images[chunk.start : chunk.stop] = pixels
    return images, np.arange(count, dtype=np.int64) % len(CLASSES)


def evaluation(count: int = 2000, seed: int = 0) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """The test split as an evaluation set: uint8 NHWC images and int64 labels.

    Shuffled, because classes that come in turn would make every tenth image one of four classes.
    """
    images, labels = render_set(count, seed=seed, split="test")
    order = np.random.default_rng(seed).permutation(count)
    return images[order], labels[order]


@dataclass(frozen=True)
class _Placed:
    """A sign's class, centre and radius, pixels."""

    label: int
    x: float
    y: float
    radius: float


def _stream(seed: int, split: str, index: int) -> Random:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS[split], index)))


def _render_chunk(chunk: range, *, seed: int, split: str) -> Pixels:
    return np.stack([render_image(index, seed=seed, split=split).image for index in chunk])


def _render(rng: Random, height: int, width: int, placed: list[_Placed]) -> Scene:
    picture = _background(rng, height, width)
    instances = Image.new("L", (width, height))
    for number, sign in enumerate(placed, 1):
        _mount(rng, picture, instances, sign, number)
    for sign in placed:
        _occlude(rng, picture, instances, sign)
    seen = np.asarray(instances)
    labels, boxes, mask = [], [], np.zeros((height, width), np.uint8)
    for number, sign in enumerate(placed, 1):
        ys, xs = np.nonzero(seen == number)
        if len(xs):
            labels.append(sign.label)
            boxes.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
            mask[ys, xs] = sign.label + 1
    return Scene(
        image=_photograph(rng, picture),
        labels=np.array(labels, np.int64),
        boxes=np.array(boxes, np.int64).reshape(-1, 4),
        mask=mask,
    )


def _colour(rng: Random) -> Colour:
    r, g, b = rng.integers(15, 240, 3).tolist()
    return r, g, b


def _background(rng: Random, height: int, width: int) -> Image.Image:
    """A four-corner gradient under blotches, stripes, polygons and discs."""
    corners = Image.fromarray(rng.integers(20, 236, (2, 2, 3)).astype(np.uint8))
    picture = corners.resize((width, height), Image.Resampling.BILINEAR)
    cells = int(rng.integers(3, 17))
    blotches = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
    blotches = blotches.resize((width, height), Image.Resampling.BICUBIC)
    picture = Image.blend(picture, blotches, rng.uniform(0.05, 0.35))
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 8)) * height * width // (SIZE * SIZE)):
        x, y, r, kind = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, 26), rng.integers(4)
        colour = _colour(rng)
        if kind == 0:
            angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
            draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a in angles.tolist()], fill=colour)
        elif kind == 1:
            draw.ellipse((x - r, y - r * rng.uniform(0.4, 1), x + r, y + r), fill=colour)
        elif kind == 2:
            dx, dy = rng.uniform(-2 * r, 2 * r, 2).tolist()
            draw.line([(x - dx, y - dy), (x + dx, y + dy)], fill=colour, width=int(rng.integers(1, 7)))
        else:
            pitch, slant = float(rng.uniform(4, 9)), float(rng.uniform(-r, r))
            for k in range(int(rng.integers(3, 7))):
                draw.line([(x + k * pitch, y - r), (x + k * pitch + slant, y + r)], fill=colour, width=int(pitch / 2))
    return picture


def _jittered(rng: Random, colour: Colour, spread: int) -> Colour:
    r, g, b = np.clip(np.array(colour) + rng.integers(-spread, spread + 1, 3), 0, 255).tolist()
    return r, g, b


@cache
def _template(label: int, style: int) -> Image.Image:
    """A sign face on, RGBA; alpha is its shape."""
    rng = np.random.default_rng(np.random.SeedSequence(20, spawn_key=(label, style)))
    inks = Inks(
        red=_jittered(rng, (195, 32, 42), 28),
        blue=_jittered(rng, (28, 84, 168), 28),
        yellow=_jittered(rng, (238, 186, 36), 22),
        white=_jittered(rng, (236, 236, 232), 16),
        black=_jittered(rng, (28, 28, 30), 18),
    )
    pixels = _TEMPLATE * _SUPERSAMPLE
    face = Image.new("RGBA", (pixels, pixels), (*inks.white, 0))
    pen = Pen(ImageDraw.Draw(face), pixels * 0.49, pixels / 2, pixels / 2, weight=float(rng.uniform(0.85, 1.2)))
    PICTURES[CLASSES[label]](pen, inks)
    return face.resize((_TEMPLATE, _TEMPLATE), Image.Resampling.BOX)


def _mount(rng: Random, picture: Image.Image, instances: Image.Image, sign: _Placed, number: int) -> None:
    """Draw a pole and the sign upon it: turned, seen at a slant, faded."""
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.6:
        grey = int(rng.integers(70, 190))
        foot = (sign.x + rng.uniform(-3, 3), sign.y + 4 * sign.radius)
        draw.line([(sign.x, sign.y), foot], fill=(grey, grey, grey), width=max(1, int(sign.radius / 7)))
    face = _template(sign.label, int(rng.integers(STYLES)))
    if sign.radius < _TEMPLATE / 5:  # a coarser copy, so that bilinear sampling does not alias
        face = face.reduce(2)
    warped = face.transform(
        picture.size, Image.Transform.PERSPECTIVE, _view(rng, sign, face.width), Image.Resampling.BILINEAR
    )
    alpha = warped.getchannel("A")
    faded = Image.blend(warped.convert("RGB"), Image.new("RGB", picture.size, _colour(rng)), rng.uniform(0, 0.3))
    picture.paste(faded, mask=alpha)
    instances.paste(number, mask=alpha.point(lambda a: 255 if a > 127 else 0))


def _view(rng: Random, sign: _Placed, template: int) -> tuple[float, ...]:
    """Picture pixels to template pixels as Pillow's eight numbers: turn, squeeze, shear and perspective."""
    angle = math.radians(float(np.clip(rng.normal(0, 9), -20, 20)))
    squeeze = np.diag([rng.uniform(0.72, 1.0), rng.uniform(0.85, 1.0)])
    shear = np.array([[1.0, rng.uniform(-0.15, 0.15)], [rng.uniform(-0.1, 0.1), 1.0]])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = np.eye(3)  # unit square [-1, 1] to picture
    forward[:2, :2] = sign.radius * turn @ shear @ squeeze
    forward[:2, 2] = sign.x, sign.y
    forward = forward @ np.array([[1, 0, 0], [0, 1, 0], [*rng.uniform(-0.16, 0.16, 2), 1.0]])
    to_template = np.array([[template / 2, 0, template / 2], [0, template / 2, template / 2], [0, 0, 1.0]])
    # the adjugate serves as inverse, since scale cancels below; numpy's inv would wake BLAS threads for a 3x3
    (a, b, c), (d, e, f), (g, h, i) = forward.tolist()
    inverse = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    matrix = to_template @ np.array(inverse)
    return tuple((matrix / matrix[2, 2]).ravel()[:8].tolist())


def _occlude(rng: Random, picture: Image.Image, instances: Image.Image, sign: _Placed) -> None:
    """Something in front, hiding part of the sign from picture and mask alike: twigs, leaves, stickers."""
    if rng.random() < 0.5:
        return
    r = sign.radius
    surfaces = ImageDraw.Draw(picture), ImageDraw.Draw(instances)
    for _ in range(int(rng.integers(1, 3))):
        angle, reach = rng.uniform(0, 2 * math.pi), r * rng.uniform(0.1, 1.0)
        x, y = sign.x + reach * math.cos(angle), sign.y + reach * math.sin(angle)
        twig, (a, b), thickness = rng.random() < 0.5, rng.uniform(-1, 1, 2).tolist(), rng.uniform(0.08, 0.2)
        for surface, paint in zip(surfaces, (_colour(rng), 0), strict=True):
            if twig:
                dx, dy = 1.6 * r * a, 1.6 * r * b
                surface.line([(x - dx, y - dy), (x + dx, y + dy)], fill=paint, width=max(1, int(r * thickness)))
            else:
                rx, ry = r * (0.12 + 0.22 * abs(a)), r * (0.12 + 0.22 * abs(b))
                surface.ellipse((x - rx, y - ry, x + rx, y + ry), fill=paint)


def _photograph(rng: Random, picture: Image.Image) -> Pixels:
    """What a cheap camera makes of it: blur, haze, light and shadow, contrast, noise."""
    if rng.random() < 0.75:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.3)))
    values = np.asarray(picture, np.float32)
    if rng.random() < 0.3:  # motion
        step = int(rng.integers(1, 4))
        values = (values + np.roll(values, step, axis=int(rng.integers(2)))) * np.float32(0.5)
    height, width = values.shape[:2]
    haze = np.float32(rng.uniform(0, 0.45) if rng.random() < 0.4 else 0)
    values = values * (1 - haze) + haze * rng.uniform(60, 230, 3).astype(np.float32)
    light = rng.uniform(0.5, 1.25) * rng.uniform(0.85, 1.15, 3)
    values = values * light.astype(np.float32)
    if rng.random() < 0.35:  # a shadow's edge runs across
        ys, xs = np.ogrid[0:height, 0:width]
        a, b = rng.normal(size=2).tolist()
        side = a * (xs - rng.uniform(0.2, 0.8) * width) + b * (ys - rng.uniform(0.2, 0.8) * height)
        values = values * np.where(side > 0, np.float32(rng.uniform(0.4, 0.8)), np.float32(1))[..., None]
    values = values + rng.standard_normal(values.shape, dtype=np.float32) * np.float32(rng.uniform(2, 12))
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
