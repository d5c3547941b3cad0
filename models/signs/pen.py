"""A pen that draws in unit coordinates: the sign spans [-1, 1] both ways, x to the right, y downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pen:
    """Unit coordinates on a pixel canvas.

    `pixels` is what one unit measures, `x` and `y` where the origin lies (pixels); `weight` scales stroke widths.
    """

    draw: ImageDraw.ImageDraw
    pixels: float
    x: float
    y: float
    weight: float = 1.0
    mirrored: bool = False

    def at(self, x: float, y: float, scale: float, *, mirror: bool = False) -> Pen:
        """A pen whose origin is this pen's `(x, y)` and whose unit is `scale` of this pen's."""
        ((px, py),) = self._place([(x, y)])
        return replace(self, pixels=self.pixels * scale, x=px, y=py, mirrored=self.mirrored != mirror)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self.draw.polygon(self._place(points), fill=(*fill, 255))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.polygon(arc(x, y, radius, radius, 0, 360), fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A stroke with round joints and round ends."""
        placed = self._place(points)
        pixels = max(1.0, width * self.weight * self.pixels)
        self.draw.line(placed, fill=(*fill, 255), width=round(pixels))
        for px, py in placed:
            r = pixels / 2
            self.draw.ellipse((px - r, py - r, px + r, py + r), fill=(*fill, 255))

    def arrow(self, points: Sequence[Point], width: float, fill: Colour, head: float = 2.6) -> None:
        """A stroke ending in a triangular head, `head` times as wide as the stroke."""
        self.line(points, width, fill)
        (x0, y0), (x1, y1) = points[-2], points[-1]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        half = head * width / 2 * self.weight
        back = (x1 - dx * half * 0.2, y1 - dy * half * 0.2)
        self.polygon(
            [
                (back[0] - dy * half, back[1] + dx * half),
                (back[0] + dy * half, back[1] - dx * half),
                (x1 + dx * half * 1.3, y1 + dy * half * 1.3),
            ],
            fill,
        )

    def _place(self, points: Sequence[Point]) -> list[Point]:
        sign = -1 if self.mirrored else 1
        return [(self.x + sign * x * self.pixels, self.y + y * self.pixels) for x, y in points]


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, steps: int = 40) -> list[Point]:
    """Points along an ellipse from angle `start` to `stop` in degrees; 0 is to the right, 90 is down."""
    angles = (math.radians(start + (stop - start) * i / steps) for i in range(steps + 1))
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def ngon(corners: int, radius: float, turn: float = 0.0, y: float = 0.0) -> list[Point]:
    """A regular polygon; `turn` is the first corner's angle in degrees."""
    return [
        (
            radius * math.cos(math.radians(turn + 360 * i / corners)),
            y + radius * math.sin(math.radians(turn + 360 * i / corners)),
        )
        for i in range(corners)
    ]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[Point]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
